//! A client over plain HTTP: one method per verb, answers as status and JSON.

use reqwest::Method;
use serde_json::{Value, json};

use crate::openapi::SPEC;

/// A client, logged in or not.
#[derive(Debug, Clone)]
pub struct Client {
    /// The homeserver, `http://127.0.0.1:port`.
    pub url: String,
    /// The access token, if logged in.
    pub token: Option<String>,
    /// The user id, if logged in.
    pub user_id: String,
    /// The device id, if logged in.
    pub device_id: String,
    http: reqwest::Client,
}

/// An answer: the status and the JSON body (null when it is not JSON).
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Value,
}

/// An answer as it came: for files and headers.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
}

impl RawAnswer {
    /// Returns a header's text, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Reads the body as JSON, null when it is not.
    pub fn answer(&self) -> Answer {
        let body = serde_json::from_slice(&self.bytes).unwrap_or(Value::Null);
        Answer { status: self.status, body }
    }
}

impl Answer {
    /// Asserts a 200 and returns the body.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Asserts an error with this status and code.
    #[track_caller]
    pub fn err(self, status: u16, errcode: &str) -> Value {
        assert_eq!(
            (self.status, self.body["errcode"].as_str()),
            (status, Some(errcode)),
            "{}",
            self.body
        );
        self.body
    }
}

impl Client {
    /// Makes a client that is not logged in.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            token: None,
            user_id: String::new(),
            device_id: String::new(),
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
        }
    }

    /// Registers a user with password `password-<name>`.
    pub async fn register(url: &str, name: &str) -> Self {
        let client = Self::new(url);
        let body = json!({
            "username": name, "password": format!("password-{name}"),
            "auth": { "type": "m.login.dummy" },
        });
        let answer = client.post("/_matrix/client/v3/register", body).await.ok();
        client.logged_in(&answer)
    }

    /// Logs the same user in once more, as a new device.
    pub async fn another_device(&self) -> Self {
        let name = self.user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
        let body = json!({
            "type": "m.login.password", "password": format!("password-{name}"),
            "identifier": { "type": "m.id.user", "user": name },
        });
        let answer = Self::new(&self.url).post("/_matrix/client/v3/login", body).await.ok();
        Self::new(&self.url).logged_in(&answer)
    }

    /// Returns the same session talking to another address, after a restart say.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    fn logged_in(mut self, answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().expect("a string").to_owned();
        self.token = Some(text("access_token"));
        self.user_id = text("user_id");
        self.device_id = text("device_id");
        self
    }

    /// Sends a request with any body and returns the answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Answer {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let bytes = response.bytes().await.expect("a whole body");
        let body: Option<Value> = serde_json::from_slice(&bytes).ok();
        conforms(&method, path, status, body.as_ref());
        Answer { status, body: body.unwrap_or(Value::Null) }
    }

    /// Sends a request with headers of the test's own and returns the answer as it came.
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> RawAnswer {
        let url = format!("{}{path}", self.url);
        let mut request = self.http.request(method.clone(), url).body(body);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("a whole body").to_vec();
        let answer = RawAnswer { status, headers, bytes };
        if method != Method::HEAD {
            let is_json = answer.header("content-type").starts_with("application/json");
            let body = serde_json::from_slice(&answer.bytes).ok().filter(|_| is_json);
            conforms(&method, path, status, body.as_ref());
        }
        answer
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string().into_bytes())).await
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string().into_bytes())).await
    }

    /// DELETE, with a JSON body if there is one.
    pub async fn delete(&self, path: &str, body: Option<Value>) -> Answer {
        self.send(Method::DELETE, path, body.map(|body| body.to_string().into_bytes())).await
    }
}

/// Fails the test when an answer is not one the specification knows.
fn conforms(method: &Method, path: &str, status: u16, body: Option<&Value>) {
    if let Err(why) = SPEC.check(method.as_str(), path, status, body) {
        panic!("{why}");
    }
}
