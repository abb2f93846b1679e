# The images of the stack. Each contains one static binary and nothing else.
#
#   docker build --target vipservice --tag localhost/hops/vipservice .       (./deploy.sh build builds all of them)
#
# If the Rust image cannot be pulled, use `./deploy.sh build --local`: binaries that this machine has built replace the
# first two stages, and the part after the line `# --- images` is used unchanged.

ARG RUST=1.95.0

# Input of the layer with the dependencies: every manifest, and an empty source file for each target that it names.
FROM rust:${RUST}-slim-bookworm AS manifests
COPY . /all
WORKDIR /all
RUN find . -path ./target -prune -o \
        \( -path '*/src/main.rs' -o -path '*/src/lib.rs' -o -path '*/src/bin/*.rs' -o -path '*/benches/*.rs' \
        -o -path '*/tests/*/main.rs' \) \
        -exec sh -c 'echo "fn main() { }" > "$1"' sh {} \; \
    && mkdir /manifests \
    && find . -path ./target -prune -o \( -name Cargo.toml -o -name Cargo.lock -o -path './.cargo/*' \
        -o -path '*/src/main.rs' -o -path '*/src/lib.rs' -o -path '*/src/bin/*.rs' -o -path '*/benches/*.rs' \
        -o -path '*/tests/*/main.rs' \) -type f -print \
        | tar --create --files-from=- --mtime=@0 | tar --extract --directory=/manifests

# The binaries contain the C library, because the images have none. The target has to be named: otherwise the flag would
# apply to build scripts, too.
FROM rust:${RUST}-slim-bookworm AS build
ENV RUSTFLAGS="-C target-feature=+crt-static" CARGO_INCREMENTAL=0
ARG BINARIES="accountservice vipservice configserver forwarder"
ARG FEATURES=""
WORKDIR /hops
COPY --from=manifests /manifests .
RUN for name in $BINARIES; do echo "--package=$name"; done > /packages \
    && cargo build --release --locked --target "$(uname -m)-unknown-linux-gnu" --features "$FEATURES" $(cat /packages)
COPY . .
# Cargo compares the times of files, and the empty files are newer.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --target "$(uname -m)-unknown-linux-gnu" --features "$FEATURES" $(cat /packages) \
    && mkdir -p /out/root/data \
    && for name in $BINARIES; do cp "target/$(uname -m)-unknown-linux-gnu/release/$name" /out/; done

# --- images
# Each container runs as nobody (65534), who owns only /data.

FROM scratch AS accountservice
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hops accountservice" \
    org.opencontainers.image.description="Serves accounts, and publishes a notification for each read of a VIP's account" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build --chown=65534:65534 /out/root/ /
COPY --from=build /out/accountservice /accountservice
USER 65534:65534
ENV APP_DATA_DIR=/data APP_SERVER_HOST=0.0.0.0
EXPOSE 6767
HEALTHCHECK --interval=3s --timeout=3s --retries=5 --start-period=10s CMD ["/accountservice", "healthcheck"]
ENTRYPOINT ["/accountservice"]

FROM scratch AS vipservice
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hops vipservice" \
    org.opencontainers.image.description="Consumes VIP notifications, in competition with its replicas, and makes offers" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/vipservice /vipservice
USER 65534:65534
ENV APP_SERVER_HOST=0.0.0.0
EXPOSE 6868
HEALTHCHECK --interval=3s --timeout=3s --retries=5 --start-period=10s CMD ["/vipservice", "healthcheck"]
ENTRYPOINT ["/vipservice"]

FROM scratch AS configserver
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hops configserver" \
    org.opencontainers.image.description="Serves a folder of settings like Spring Cloud Config" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/configserver /configserver
USER 65534:65534
ENV APP_SERVER_HOST=0.0.0.0
EXPOSE 8888
HEALTHCHECK --interval=3s --timeout=3s --retries=5 --start-period=10s CMD ["/configserver", "healthcheck", "--config-repo", "/config-repo"]
ENTRYPOINT ["/configserver"]
CMD ["--config-repo", "/config-repo"]

# Runs in front of the replicas if the kernel has no IPVS: see docker-compose.noipvs.yml.
FROM scratch AS edge
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Hops edge" \
    org.opencontainers.image.description="Distributes the TCP connections of a port over the replicas of a service" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/forwarder /forwarder
USER 65534:65534
HEALTHCHECK --interval=3s --timeout=3s --retries=5 --start-period=5s CMD ["/forwarder", "healthcheck", "127.0.0.1:6700"]
ENTRYPOINT ["/forwarder"]
