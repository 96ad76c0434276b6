//! What the demo asks the proxy's admin endpoints.

use crate::admin::orders::{HEADER, HEADER_VALUE};
use crate::admin::{InstanceStatus, Status};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one answer may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is read.
const MAX_ANSWER_BYTES: u64 = 8 * 1024 * 1024;

/// The body of `path`; an error unless the answer is 200.
pub(super) async fn get(port: u16, path: &str) -> Result<String, String> {
    asked(port, "GET", path).await
}

/// Gives an order.
pub(super) async fn order(port: u16, path: &str) -> Result<String, String> {
    asked(port, "POST", path).await
}

async fn asked(port: u16, method: &str, path: &str) -> Result<String, String> {
    let answer = timeout(HTTP_TIMEOUT, exchange(port, method, path)).await;
    let answer = answer.map_err(|_| format!("{method} {path}: no answer within {HTTP_TIMEOUT:?}"))?;
    let answer = answer.map_err(|error| format!("{method} {path}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{method} {path}: not HTTP"))?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("{method} {path}: {}", head.lines().next().unwrap_or_default())),
    }
}

/// HTTP/1.0: the answer is not chunked and ends with the connection.
async fn exchange(port: u16, method: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n{HEADER}: {HEADER_VALUE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// What `/status` says of an instance.
pub(super) async fn status(port: u16, instance: &str) -> Result<InstanceStatus, String> {
    let body = get(port, "/status").await?;
    let status: Status = serde_json::from_str(&body).map_err(|error| format!("GET /status: {error}"))?;
    let found = status.instances.into_iter().find(|one| one.name == instance);
    found.ok_or_else(|| format!("GET /status: no {instance} in {body}"))
}

/// The sum of all series of `name` for an instance in the text of `/metrics`.
pub(super) fn counter(metrics: &str, name: &str, instance: &str) -> Option<u64> {
    let label = format!("instance_name=\"{instance}\"");
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let of_instance =
        series.filter_map(|line| line.rsplit_once('}')).filter(|(labels, _)| labels.contains(&label));
    let values = of_instance.filter_map(|(_, value)| value.trim().parse::<f64>().ok());
    values.map(|value| value as u64).reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# HELP fallback_total reads
fallback_total{command=\"get\",instance_name=\"a\"} 3
fallback_total{command=\"ttl\",instance_name=\"a\"} 4
fallback_total{command=\"get\",instance_name=\"b\"} 9
fallback_total_other{command=\"get\",instance_name=\"a\"} 100
";

    #[test]
    fn a_counter_is_the_sum_over_its_commands() {
        assert_eq!(counter(METRICS, "fallback_total", "a"), Some(7));
        assert_eq!(counter(METRICS, "fallback_total", "b"), Some(9));
        assert_eq!(counter(METRICS, "fallback_total", "c"), None);
        assert_eq!(counter(METRICS, "nothing", "a"), None);
    }
}
