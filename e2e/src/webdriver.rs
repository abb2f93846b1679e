//! A browser as a person uses it: Debian's Chromium, which chromedriver drives over WebDriver, in plain HTTP and JSON.
//!
//! The packages are `chromium` and `chromium-driver`; nothing is downloaded. [`Browser`] panics when the page does not do
//! what a test asks for, and is closed when it is dropped, or when the test's process dies.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    environment, http,
    wait::{PATIENCE, PAUSE, until},
};

/// Runs the command `$@` in a session of its own, until standard input ends; then kills the whole session, so the browser,
/// too, and removes the folder `$0`.
const WARDEN: &str = r#"
    setsid "$@" </dev/null 2>/dev/null &
    exec >/dev/null
    cat
    kill -KILL -$!
    wait
    rm -rf -- "$0"
"#;
/// Name of an element's id in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
#[derive(Debug)]
pub struct Browser {
    warden: Child,
    /// Held so that what chromedriver prints has somewhere to go.
    _output: BufReader<ChildStdout>,
    /// Folder of its profile and its downloads.
    folder: PathBuf,
    client: reqwest::Client,
    session: String,
}

impl Browser {
    /// Starts a browser without a window on the screen. Without Chromium it returns `None` and prints one line; in CI it panics.
    pub async fn start(test: &str) -> Option<Self> {
        environment::has_programs(test, &["chromium", "chromedriver"]).then_some(())?;
        let folder = TempDir::new().expect("the folder for temporary files can be written").keep();
        let mut warden = Command::new("sh")
            .args(["-c", WARDEN])
            .arg(&folder)
            .args(["chromedriver", "--port=0"])
            .env("HOME", &folder)
            .env("TMPDIR", &folder)
            // A group of its own: Ctrl-C ends the tests, and then the warden does its work.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh can be started");
        let mut output = BufReader::new(warden.stdout.take().expect("piped"));
        let port = port(&mut output);
        let session = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { warden, _output: output, folder, client: http::client(), session };
        let mut args = vec![
            "--headless",
            "--window-size=1280,900",
            "--hide-scrollbars",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-dev-shm-usage",
        ];
        if rustix::process::getuid().is_root() {
            // Chromium refuses to start as root with its sandbox.
            args.push("--no-sandbox");
        }
        let wanted = json!({"browserName": "chrome", "goog:chromeOptions": {"args": args}, "goog:loggingPrefs": {"browser": "ALL"}});
        let started = browser.command("", &json!({"capabilities": {"alwaysMatch": wanted}})).await;
        let id = started["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("{}/{id}", browser.session);
        let downloads = json!({"behavior": "allow", "downloadPath": browser.downloads()});
        browser.devtools("Browser.setDownloadBehavior", &downloads).await;
        Some(browser)
    }

    /// Folder into which the page's downloads go.
    pub fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    /// Opens an address and waits until its page is loaded.
    pub async fn open(&self, url: &str) {
        self.command("/url", &json!({"url": url})).await;
    }

    /// Opens a file of this machine.
    pub async fn open_file(&self, path: &Path) {
        self.open(&format!("file://{}", path.display())).await;
    }

    /// Runs the body of a function in the page and returns its result.
    pub async fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Waits until an expression is neither false nor null in the page, and returns its value; panics with the page's text when
    /// that takes too long.
    pub async fn until(&self, expression: &str) -> Value {
        let start = Instant::now();
        loop {
            let value = self.run(&format!("return {expression}")).await;
            if value != Value::Null && value != Value::Bool(false) {
                return value;
            }
            if start.elapsed() > PATIENCE {
                let text = self.run("return document.body.innerText").await;
                let text = text.as_str().unwrap_or_default();
                panic!("waited {PATIENCE:?} in vain for: {expression}\nthe page:\n{text}");
            }
            sleep(PAUSE).await;
        }
    }

    /// Clicks where a person would: on an element that can be seen and that nothing covers.
    pub async fn click(&self, css: &str) {
        let query = json!({"using": "css selector", "value": css});
        until(css, PATIENCE, async || {
            let element = self.command("/element", &query).await;
            let id = element[ELEMENT].as_str().expect("an element has an id");
            match self.try_command(&format!("/element/{id}/click"), &json!({})).await {
                Ok(_) => Some(()),
                // The page has just put another one in its place.
                Err(error) if error["error"] == "stale element reference" => None,
                Err(error) => panic!("{css}: {}", error["message"]),
            }
        })
        .await;
    }

    /// Sets the value of a field or a list.
    pub async fn set(&self, css: &str, value: &str) {
        let script =
            "const [css, value] = arguments; const field = document.querySelector(css); field.value = value;
            for (const name of ['input', 'change']) field.dispatchEvent(new Event(name, {bubbles: true}));
            return field.value";
        let body = json!({"script": script, "args": [css, value]});
        assert_eq!(self.command("/execute/sync", &body).await, json!(value), "{css}");
    }

    /// Returns what the browser has complained about in its console since the last call: errors and warnings.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({"type": "browser"})).await;
        let is_complaint = |entry: &&Value| entry["level"] == "SEVERE" || entry["level"] == "WARNING";
        log.as_array().into_iter().flatten().filter(is_complaint).map(Value::to_string).collect()
    }

    /// Returns the window's content as PNG.
    pub async fn picture(&self) -> Vec<u8> {
        let taken = self.devtools("Page.captureScreenshot", &json!({})).await;
        BASE64_STANDARD.decode(taken["data"].as_str().unwrap_or_default()).expect("a picture is base64")
    }

    /// Runs a command of the Chrome DevTools protocol, for what WebDriver has no command.
    pub async fn devtools(&self, command: &str, parameters: &Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        self.command("/goog/cdp/execute", &body).await
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        let answer = self.try_command(path, body).await;
        answer.unwrap_or_else(|error| panic!("{path} {body}: {}", error["message"]))
    }

    /// Sends a command, and returns its value, or the error as WebDriver has it.
    async fn try_command(&self, path: &str, body: &Value) -> Result<Value, Value> {
        let request = self.client.post(format!("{}{path}", self.session)).timeout(PATIENCE).json(body);
        let reply = http::Reply::of(request).await.expect("chromedriver answers");
        let value = reply.json()["value"].take();
        if reply.status == 200 { Ok(value) } else { Err(value) }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.warden.stdin.take());
        let _ = self.warden.wait();
    }
}

/// Reads the port from `ChromeDriver was started successfully on port 41029.`
fn port(output: &mut impl BufRead) -> u16 {
    let lines = output.lines().map_while(Result::ok);
    let mut ports = lines.filter_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    ports.next().expect("chromedriver prints its port")
}
