//! Finds the endpoint of a request: 404 for an unknown path, 405 for a known one with another
//! method, both `M_UNRECOGNIZED`. Path arguments are percent-decoded here, once, after routing, so
//! that an encoded slash can never change the route.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::MatrixError;
use colonnade_services::Services;
use http::{HeaderValue, Method, Request, header};
use percent_encoding::percent_decode_str;

use crate::{
    bounds,
    call::require_welcome,
    enums,
    needs::Needed,
    reply::{self, Reply},
    request::ByteBody,
    routes,
    table::{Route, Table},
};

/// The longest path looked at, in bytes: ids have at most 255 characters, tripled by encoding.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// Routes requests to endpoints.
pub struct Router {
    services: Arc<Services>,
    paths: matchit::Router<usize>,
    methods: Vec<HashMap<Method, Route>>,
}

/// Put into a response's extensions: the endpoint that answered, for metrics and logs.
#[derive(Debug, Clone, Copy)]
pub struct EndpointName(pub &'static str);

impl Router {
    /// Mounts every endpoint of [`routes::all`].
    ///
    /// # Panics
    /// When two endpoints claim the same method and path, which a test of this crate rules out.
    pub fn new(services: Arc<Services>) -> Self {
        let table = routes::all();
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut router = Self { services, paths: matchit::Router::new(), methods: Vec::new() };
        for route in table.routes {
            let shape = shape_of(&route.path);
            let place = *places.entry(shape.clone()).or_insert_with(|| {
                router.paths.insert(shape, router.methods.len()).expect("paths do not conflict");
                router.methods.push(HashMap::new());
                router.methods.len() - 1
            });
            let previous = router.methods[place].insert(route.method.clone(), route);
            assert!(previous.is_none(), "two endpoints claim one method and path");
        }
        router
    }

    /// Answers a request. Never fails: errors are answers.
    pub async fn answer(&self, request: Request<ByteBody>) -> Reply {
        if request.method() == Method::OPTIONS {
            return with_cors(reply::json(http::StatusCode::OK, "{}"));
        }
        with_cors(self.dispatch(request).await)
    }

    /// Returns the answer to a request for which nothing is done: its address asked too often without a
    /// valid token.
    pub fn turned_away(&self, request: &Request<ByteBody>) -> Option<Reply> {
        require_welcome(&self.services, request).err().map(|refusal| Self::refuse(&refusal))
    }

    /// Refuses a request before it is looked for.
    pub fn refuse(error: &MatrixError) -> Reply {
        with_cors(reply::matrix_error(error))
    }

    /// Returns the room that a request writes to, as its path names it, and the endpoint; `None` for what
    /// only reads, and where the path names no room by its id.
    pub fn room_written(&self, request: &Request<ByteBody>) -> Option<(EndpointName, String)> {
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return None;
        }
        let (route, args) = self.find(request).ok()?;
        let place = place_of_room(&route.path)?;
        let room = args.into_iter().nth(place).filter(|room| room.starts_with('!'))?;
        Some((EndpointName(route.name), room))
    }

    async fn dispatch(&self, mut request: Request<ByteBody>) -> Reply {
        let (route, args) = match self.find(&request) {
            Ok(found) => found,
            Err(error) => {
                let mut answer = reply::matrix_error(&error);
                if error.status == 405 {
                    answer.headers_mut().insert(header::ALLOW, self.allowed(request.uri().path()));
                }
                return answer;
            }
        };
        let name = EndpointName(route.name);
        if let Err(error) = enums::check_query(&route.method, &route.path, request.uri().query()) {
            return reply::matrix_error(&error);
        }
        let needed = Needed::new(route.need);
        request.extensions_mut().insert(needed.clone());
        request.extensions_mut().insert(route.guests);
        request.extensions_mut().insert(route.restricted);
        let answer = match bounds::begin(&self.services, route.rate, request.extensions_mut()) {
            Ok(()) => (route.run)(Arc::clone(&self.services), request, args).await,
            Err(error) => reply::matrix_error(&error),
        };
        let mut answer = needed.pay(answer);
        answer.extensions_mut().insert(name);
        answer
    }

    /// Lists the methods that a path has (RFC 9110 §15.5.6).
    fn allowed(&self, path: &str) -> HeaderValue {
        let methods = self.paths.at(path).ok().map(|found| &self.methods[*found.value]);
        let mut names: Vec<&str> =
            methods.into_iter().flat_map(|m| m.keys().map(Method::as_str)).collect();
        if names.contains(&"GET") && !names.contains(&"HEAD") {
            names.push("HEAD");
        }
        names.push("OPTIONS");
        names.sort_unstable();
        names.dedup();
        HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
    }

    /// Finds the endpoint of a request, and the arguments in its path.
    fn find(&self, request: &Request<ByteBody>) -> Result<(&Route, Vec<String>), MatrixError> {
        let path = request.uri().path();
        if path.len() > PATH_BYTES_MAX {
            return Err(MatrixError::too_large("the path is too long").with_status(414));
        }
        let Ok(found) = self.paths.at(path) else {
            return Err(MatrixError::unrecognized("no such endpoint"));
        };
        let methods = &self.methods[*found.value];
        let method = match *request.method() {
            Method::HEAD if !methods.contains_key(&Method::HEAD) => &Method::GET,
            ref method => method,
        };
        let Some(route) = methods.get(method) else {
            return Err(MatrixError::method_not_allowed("not with this method"));
        };
        let decoded = found.params.iter().map(|(_, raw)| {
            percent_decode_str(raw).decode_utf8().map(std::borrow::Cow::into_owned)
        });
        let not_text = |_| MatrixError::invalid_param("the path is not UTF-8 when decoded");
        let args: Vec<String> = decoded.collect::<Result<_, _>>().map_err(not_text)?;
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(MatrixError::invalid_param("the path contains a NUL character"));
        }
        Ok((route, args))
    }
}

/// Returns which of a path's arguments names the room.
fn place_of_room(path: &str) -> Option<usize> {
    let mut names = path.split('/').filter(|segment| segment.starts_with('{'));
    names.position(|name| matches!(name, "{room_id}" | "{room_id_or_alias}"))
}

/// Names the arguments by place, since endpoints call the same place by different names.
fn shape_of(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            shape.push('/');
        }
        if segment.starts_with('{') {
            shape.push_str(&format!("{{a{place}}}"));
        } else {
            shape.push_str(segment);
        }
    }
    shape
}

/// Lets web clients of any origin read the answer.
///
/// Source: Matrix v1.19, client-server, "Web browser clients".
fn with_cors(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
    reply
}

/// Lists the mounted endpoints, one `METHOD path` a line, sorted: the contract with the gateway.
pub fn listing(table: &Table) -> String {
    let lines = table.routes.iter().map(|route| format!("{} {}\n", route.method, route.path));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_argument_that_is_the_room_is_known() {
        let base = "/_matrix/client/v3";
        for (path, place) in [
            ("/rooms/{room_id}/send/{event_type}/{txn_id}", Some(0)),
            ("/join/{room_id_or_alias}", Some(0)),
            ("/user/{user_id}/rooms/{room_id}/account_data/{event_type}", Some(1)),
            ("/directory/room/{room_alias}", None),
            ("/createRoom", None),
        ] {
            assert_eq!(place_of_room(&format!("{base}{path}")), place, "{path}");
        }
        // No endpoint calls it otherwise.
        let mut rooms = 0;
        for Route { path, .. } in routes::all().routes {
            let is_known = place_of_room(&path).is_some();
            assert_eq!(is_known, path.contains("{room_id"), "{path}");
            assert!(is_known || !path.contains("/rooms/{"), "{path}");
            rooms += usize::from(is_known);
        }
        assert!(rooms > 50, "{rooms}");
    }
}
