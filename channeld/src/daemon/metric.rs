//! Prometheus metrics over HTTP, on a loopback port of their own.

use std::convert::Infallible;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

/// Collects metrics and serves them at `address`, if there is one; gives the address with the port that it got.
pub async fn serve(address: Option<SocketAddr>) -> std::io::Result<Option<SocketAddr>> {
    let Some(address) = address else { return Ok(None) };
    let handle = PrometheusBuilder::new().install_recorder().map_err(std::io::Error::other)?;
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(accept(listener, handle));
    Ok(Some(bound))
}

async fn accept(listener: TcpListener, handle: PrometheusHandle) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let handle = handle.clone();
        // One after the other: it is one collector that asks every few seconds.
        let answer = service_fn(move |request: Request<Incoming>| {
            let text = handle.render();
            async move { Ok::<_, Infallible>(respond(request.uri().path(), text)) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .header_read_timeout(None)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        if tokio::time::timeout(std::time::Duration::from_secs(5), served).await.is_err() {
            tracing::debug!("a collector of metrics was too slow");
        }
    }
}

fn respond(path: &str, text: String) -> Response<Full<Bytes>> {
    let found = path == "/metrics";
    let mut response = Response::new(Full::new(Bytes::from(if found { text } else { "see /metrics\n".to_owned() })));
    *response.status_mut() = if found { StatusCode::OK } else { StatusCode::NOT_FOUND };
    response
}
