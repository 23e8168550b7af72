//! The routes: who asks, for what, and which headers every answer has.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use jsonrpsee::Methods;
use jsonrpsee::server::{HttpBody, HttpResponse, StopHandle, TowerServiceBuilder, ws};
use tower::layer::util::Identity;
use tower::{Service as _, ServiceExt as _};
use tower_http::services::ServeDir;

use crate::metrics;
use crate::rpc::Rpc;
use crate::rpc::access::{Access, is_cross_site};
use crate::rpc::ids;
use crate::rpc::reading::view;
use crate::rpc::stream::Activity;
use crate::status::pages::status_json;
use crate::status::read::Depth;
use crate::status::render::{Renderer, content_security_policy};

/// How a request came in. The Unix socket's file permissions say who that is, so it needs no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Tcp,
    Unix,
}

/// Answers the requests of one listener; cheap to clone.
#[derive(Clone)]
pub(super) struct Front(Arc<Inner>);

struct Inner {
    rpc: Rpc,
    peer: Peer,
    methods: Methods,
    stop: StopHandle,
    builder: TowerServiceBuilder<Identity, Identity>,
    pages: ServeDir,
    policy: HeaderValue,
}

impl Front {
    pub(super) fn new(
        rpc: Rpc,
        peer: Peer,
        methods: Methods,
        stop: StopHandle,
        builder: TowerServiceBuilder<Identity, Identity>,
    ) -> Self {
        let pages = ServeDir::new(&rpc.pages).append_index_html_on_directories(true);
        let policy = format!("{}; frame-ancestors 'none'", content_security_policy());
        let policy = HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"));
        Self(Arc::new(Inner { rpc, peer, methods, stop, builder, pages, policy }))
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        activity: &Activity,
    ) -> Result<HttpResponse, Infallible> {
        let _busy = activity.begin();
        let cache = match request.uri().path() {
            "/rpc" | "/metrics" | "/healthz" | "/readyz" => "no-store",
            _ => "no-cache",
        };
        let mut response = self.route(request, activity).await;
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.0.policy.clone());
        for (name, value) in [
            (CACHE_CONTROL, cache),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Ok(response)
    }

    async fn route(&self, request: Request<Incoming>, activity: &Activity) -> HttpResponse {
        let path = request.uri().path();
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        // Probes come under any name and learn nothing.
        match path {
            "/healthz" if reading => return text(StatusCode::OK, "ok\n"),
            "/readyz" if reading => return self.readyz(),
            _ => {}
        }
        if self.0.peer == Peer::Tcp && !self.host_is_ours(&request) {
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "This name is not known as one of Larder's.\nhint: set `url:` in the Site document to the address that you use\n",
            );
        }
        match path {
            "/rpc" => self.rpc(request, activity).await,
            "/metrics" if reading => self.metrics().await,
            _ if reading => self.page(request).await,
            _ => not_allowed("GET, HEAD"),
        }
    }

    fn host_is_ours(&self, request: &Request<Incoming>) -> bool {
        let Inner { rpc, .. } = &*self.0;
        let headers = request.headers();
        // The config is read only for a name that is not plainly local.
        rpc.hosts.allows(headers, None)
            || rpc.ledger.desired().is_ok_and(|desired| rpc.hosts.allows(headers, desired.site.url.as_deref()))
    }

    fn readyz(&self) -> HttpResponse {
        let missing = self.0.rpc.readiness.missing(std::time::Instant::now());
        if missing.is_empty() {
            return text(StatusCode::OK, "ready\n");
        }
        let mut response = text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")));
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }

    async fn metrics(&self) -> HttpResponse {
        let rendered = match view(&self.0.rpc, Depth::Jobs).await {
            Ok(view) => metrics::render(&view).map_err(|error| crate::error::chain(&error)),
            Err(trouble) => Err(trouble.message),
        };
        match rendered {
            Ok(body) => {
                let mut response = text(StatusCode::OK, body);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                response
            }
            Err(error) => {
                tracing::error!(error, "the metrics could not be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n")
            }
        }
    }

    async fn page(&self, request: Request<Incoming>) -> HttpResponse {
        let path = request.uri().path().to_owned();
        if self.0.rpc.live.state().is_some() {
            return self.page_from_memory(&path).await;
        }
        let first = path == "/";
        match self.0.pages.clone().oneshot(request).await {
            Ok(response) if first && response.status() == StatusCode::NOT_FOUND => {
                text(StatusCode::SERVICE_UNAVAILABLE, "The pages are not written yet. Try again in a moment.\n")
            }
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                text(StatusCode::NOT_FOUND, "There is nothing here.\n")
            }
            Ok(response) => response.map(HttpBody::new),
            Err(never) => match never {},
        }
    }

    /// What is known while the directory of the pages is lost: never an old page that looks well.
    async fn page_from_memory(&self, path: &str) -> HttpResponse {
        let (body, kind) = match (view(&self.0.rpc, Depth::Strips).await, path) {
            (Ok(view), "/status.json") => {
                (status_json(&view).ok().and_then(|json| String::from_utf8(json).ok()), "application/json")
            }
            (Ok(view), _) => {
                let rendered = tokio::task::spawn_blocking(move || Renderer::new(None)?.index(&view)).await;
                (rendered.ok().and_then(Result::ok), "text/html; charset=utf-8")
            }
            (Err(_), _) => (None, ""),
        };
        let Some(body) = body else {
            let why = self.0.rpc.readiness.missing(std::time::Instant::now()).join("\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
        };
        let mut response = text(StatusCode::SERVICE_UNAVAILABLE, body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    async fn rpc(&self, request: Request<Incoming>, activity: &Activity) -> HttpResponse {
        let upgrade = ws::is_upgrade_request(&request);
        if !upgrade && request.method() != Method::POST {
            return not_allowed("POST");
        }
        let access = match self.admit(&request) {
            Ok(access) => access,
            Err(refusal) => return *refusal,
        };
        let mut service = self.0.builder.clone().build(self.0.methods.clone(), self.0.stop.clone());
        let answer = if upgrade {
            let mut request = request;
            request.extensions_mut().insert(access);
            let response = service.call(request).await;
            if response.as_ref().is_ok_and(|r| r.status() == StatusCode::SWITCHING_PROTOCOLS) {
                activity.upgraded();
            }
            response
        } else {
            let (mut parts, body) = match self.read_body(request).await {
                Ok(read) => read,
                Err(refusal) => return *refusal,
            };
            parts.extensions.insert(access);
            let inside = HttpBody::from(ids::inward(&body));
            let answer = service.call(Request::from_parts(parts, inside)).await;
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    return with_ids(answer, ids::asks_nothing(&body)).await;
                }
                other => other,
            }
        };
        answer.unwrap_or_else(|error| {
            tracing::error!(%error, "a request could not be answered");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be answered\n")
        })
    }

    /// Who this is, or why not.
    fn admit(&self, request: &Request<Incoming>) -> Result<Access, Box<HttpResponse>> {
        let headers = request.headers();
        if is_cross_site(headers) {
            return Err(Box::new(text(StatusCode::FORBIDDEN, "Requests from other sites' pages are refused.\n")));
        }
        if self.0.peer == Peer::Unix {
            return Ok(Access::Control);
        }
        self.0.rpc.tokens.access(headers).ok_or_else(|| {
            let why = if self.0.rpc.tokens.is_empty() {
                "No token is configured, so RPC over TCP is closed.\n\
                 hint: start the daemon with --read-tokens FILE or --control-tokens FILE, or use the Unix socket in the state directory\n"
            } else {
                "A bearer token is needed.\nhint: send `Authorization: Bearer TOKEN`\n"
            };
            let mut response = text(StatusCode::UNAUTHORIZED, why);
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"larder\""));
            Box::new(response)
        })
    }

    /// Reads the body within its bounds of size and time.
    async fn read_body(
        &self,
        request: Request<Incoming>,
    ) -> Result<(http::request::Parts, hyper::body::Bytes), Box<HttpResponse>> {
        let bounds = &self.0.rpc.bounds;
        let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let json = header(CONTENT_TYPE).and_then(|t| t.split(';').next()).map(str::trim);
        if !json.is_some_and(|json| json.eq_ignore_ascii_case("application/json")) {
            let why = "A JSON-RPC request is application/json.\nhint: send `Content-Type: application/json`\n";
            return Err(Box::new(closing(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why))));
        }
        let too_large = || {
            let why = format!("A request has at most {} bytes.\n", bounds.body_bytes_max);
            Box::new(closing(text(StatusCode::PAYLOAD_TOO_LARGE, why)))
        };
        let announced = header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > bounds.body_bytes_max as u64) {
            return Err(too_large());
        }
        let (mut parts, body) = request.into_parts();
        // What is handed on has another length.
        parts.headers.remove(CONTENT_LENGTH);
        match tokio::time::timeout(bounds.body, Limited::new(body, bounds.body_bytes_max).collect()).await {
            Ok(Ok(body)) => Ok((parts, body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Box::new(closing(text(StatusCode::BAD_REQUEST, "The body could not be read.\n")))),
            Err(_) => Err(Box::new(closing(text(StatusCode::REQUEST_TIMEOUT, "The body took too long.\n")))),
        }
    }
}

/// The answer with the caller's own ids; nothing where nothing was asked.
async fn with_ids(answer: HttpResponse, asked_nothing: bool) -> HttpResponse {
    let (mut parts, body) = answer.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    if asked_nothing {
        parts.status = StatusCode::NO_CONTENT;
        parts.headers.remove(CONTENT_TYPE);
        return HttpResponse::from_parts(parts, HttpBody::empty());
    }
    match body.collect().await {
        Ok(body) => HttpResponse::from_parts(parts, HttpBody::from(ids::outward(&body.to_bytes()))),
        Err(error) => {
            tracing::error!(%error, "an answer could not be read back");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be answered\n")
        }
    }
}

fn text(status: StatusCode, body: impl Into<String>) -> HttpResponse {
    let mut response = HttpResponse::new(HttpBody::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn not_allowed(allow: &'static str) -> HttpResponse {
    let mut response = closing(text(StatusCode::METHOD_NOT_ALLOWED, "This method is not allowed here.\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// What is left of the body is not read, so the connection ends.
fn closing(mut response: HttpResponse) -> HttpResponse {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
