//! Reading a request's body: bounded in bytes on the wire, in bytes after decompression, in memory and in time.

use std::io::Read;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::problem::Problem;

/// zstd may ask for a window of up to 2 GB to decompress; 8 MB is what RFC 8878 recommends to support.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Permits are counted in pages, because a semaphore's count is too narrow for bytes.
const PAGE_BYTES: usize = 4096;

/// The bounds of one kind of request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// On the wire.
    pub(crate) bytes_max: usize,
    /// After decompression.
    pub(crate) decompressed_bytes_max: usize,
    /// From the first byte to the last.
    pub(crate) read_timeout: Duration,
}

impl BodyLimits {
    /// The same for a body of so many bytes, on the wire and after decompression.
    pub(crate) fn of_bytes(self, bytes_max: usize) -> Self {
        Self { bytes_max, decompressed_bytes_max: bytes_max, ..self }
    }
}

/// The memory that all bodies together may take while they are received.
pub(crate) struct BodyMemory(Semaphore);

impl BodyMemory {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self(Semaphore::new((bytes_max / PAGE_BYTES).clamp(1, Semaphore::MAX_PERMITS)))
    }

    /// Reads a body and decompresses it as its `Content-Encoding` says.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body, limits: BodyLimits) -> Result<Bytes, Problem> {
        let too_large = || Problem::too_large(format!("the body is larger than {} bytes", limits.bytes_max));
        let encoding = Encoding::of(headers)?;
        let declared = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        if declared.is_some_and(|bytes| bytes > limits.bytes_max) {
            return Err(too_large());
        }
        let reserved = self.reserve(declared.unwrap_or(limits.bytes_max))?;
        let reading = Limited::new(body, limits.bytes_max).collect();
        let bytes = match tokio::time::timeout(limits.read_timeout, reading).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            // An undeclared length is only found out while reading.
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
            Ok(Err(_)) => return Err(Problem::bad_request("the body ended early")),
            Err(_) => return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
        };
        // From here on the request is worked on without a pause, so there are at most as many as threads.
        drop(reserved);
        encoding.decompress(bytes, limits.decompressed_bytes_max)
    }

    fn reserve(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Problem> {
        let pages = u32::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(u32::MAX);
        self.0.try_acquire_many(pages).map_err(|_| {
            Problem::later(StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time", Duration::from_secs(1))
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Identity) };
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding can be gzip or zstd")),
        }
    }

    fn decompress(self, bytes: Bytes, bytes_max: usize) -> Result<Bytes, Problem> {
        let unreadable = |_| Problem::bad_request("the body cannot be decompressed as its Content-Encoding says");
        match self {
            Self::Identity if bytes.len() > bytes_max => Err(decompressed_too_large(bytes_max)),
            Self::Identity => Ok(bytes),
            Self::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(&bytes[..]), bytes_max),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(&bytes[..]).map_err(unreadable)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(unreadable)?;
                read_bounded(decoder, bytes_max)
            }
        }
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Bytes, Problem> {
    let mut decompressed = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(limit)
        .read_to_end(&mut decompressed)
        .map_err(|_| Problem::bad_request("the body cannot be decompressed as its Content-Encoding says"))?;
    if decompressed.len() > bytes_max {
        return Err(decompressed_too_large(bytes_max));
    }
    Ok(decompressed.into())
}

fn decompressed_too_large(bytes_max: usize) -> Problem {
    Problem::too_large(format!("the body is larger than {bytes_max} bytes after decompression"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { bytes_max: 100, decompressed_bytes_max: 1000, read_timeout: Duration::from_secs(5) };

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).expect("into memory");
        encoder.finish().expect("into memory")
    }

    async fn read(encoding: &str, bytes: Vec<u8>) -> Result<Bytes, StatusCode> {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, encoding.parse().expect("a header value"))]);
        let memory = BodyMemory::new(1 << 20);
        memory.read(&headers, bytes.into(), LIMITS).await.map_err(|problem| problem.status())
    }

    #[tokio::test]
    async fn bodies_are_decompressed() {
        assert_eq!(read("identity", b"abc".to_vec()).await.as_deref(), Ok(&b"abc"[..]));
        assert_eq!(read("gzip", gzip(b"abc")).await.as_deref(), Ok(&b"abc"[..]));
        let zstd = zstd::encode_all(&b"abc"[..], 3).expect("into memory");
        assert_eq!(read("zstd", zstd).await.as_deref(), Ok(&b"abc"[..]));
    }

    #[tokio::test]
    async fn both_sizes_are_bounded() {
        assert_eq!(read("identity", vec![b' '; 101]).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(read("gzip", gzip(&[b' '; 1001])).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let chunks = futures::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"))));
        let undeclared = BodyMemory::new(1 << 20).read(&HeaderMap::new(), Body::from_stream(chunks), LIMITS).await;
        assert_eq!(undeclared.map_err(|problem| problem.status()), Err(StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_named() {
        assert_eq!(read("br", vec![]).await, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        let mut cut = gzip(b"abc");
        cut.truncate(cut.len() - 4);
        assert_eq!(read("gzip", cut).await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(read("zstd", b"abc".to_vec()).await, Err(StatusCode::BAD_REQUEST));
    }

    #[tokio::test]
    async fn memory_is_bounded_over_all_requests() {
        let memory = BodyMemory::new(PAGE_BYTES);
        let held = memory.reserve(1).expect("the only page");
        let refused = memory.read(&HeaderMap::new(), Body::from("abc"), LIMITS).await;
        assert_eq!(refused.map_err(|problem| problem.status()), Err(StatusCode::SERVICE_UNAVAILABLE));
        drop(held);
        assert!(memory.read(&HeaderMap::new(), Body::from("abc"), LIMITS).await.is_ok());
    }
}
