#!/usr/bin/env python3
"""Starts the configserver with settings that have Spring's names: PORT BACKEND REPOSITORY SETTINGS_AS_JSON.

Conformance suites for Spring Cloud Config start their server in this way. BACKEND is `native` or `git`; there is no git
backend here, so `git` serves the files as they lie. CONFIGSERVER names the binary (default: that of `cargo build`).
A broker is needed for /monitor: BROKER names its address.
"""
import json
import os
import sys
import tempfile

KEYS = {
    "spring.cloud.config.server.accept-empty": "accept_empty",
    "spring.cloud.config.server.prefix": "prefix",
    "spring.cloud.config.server.native.add-label-locations": "add_label_locations",
    "spring.cloud.config.server.native.default-label": "default_label",
    "spring.cloud.config.server.native.version": "version",
    "spring.cloud.config.server.encrypt.enabled": "encrypt_enabled",
    "spring.cloud.config.server.encrypt.prefix-invalid-properties": "encrypt_prefix_invalid",
    "encrypt.prefix-invalid-properties": "encrypt_prefix_invalid",
    "encrypt.key": "encrypt_key",
    "encrypt.salt": "encrypt_salt",
    "spring.cloud.bus.id": "bus_id",
    "spring.security.user.name": "auth_username",
    "spring.security.user.password": "auth_password",
}
OVERRIDES = "spring.cloud.config.server.overrides."
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

port, _backend, repository, settings = sys.argv[1:5]
binary = os.environ.get("CONFIGSERVER", os.path.join(ROOT, "target", "debug", "configserver"))
arguments = [binary, "--config-repo", repository, "--server-port", port, "--watch", "false"]
arguments += ["--data-dir", os.path.join(tempfile.gettempdir(), "configserver-cases")]
if "BROKER" in os.environ:
    arguments += ["--amqp-server-url", os.environ["BROKER"]]
overrides = {}
for key, value in json.loads(settings).items():
    if key.startswith(OVERRIDES):
        overrides[key.removeprefix(OVERRIDES).removeprefix("[").removesuffix("]")] = value
    elif key in KEYS:
        # The environment, since secrets have no flag.
        os.environ[f"APP_{KEYS[key]}".upper()] = str(value)
    else:
        print(f"passed over: {key}", file=sys.stderr)
if overrides:
    os.environ["APP_OVERRIDES"] = json.dumps(overrides)
os.execv(binary, arguments)
