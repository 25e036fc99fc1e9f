//! Certificate compression (RFC 8879): a chain of two RSA certificates shrinks by a third, and over
//! QUIC the first flight then fits what may be sent to an address that has proven nothing. rustls
//! keeps what was compressed; `settings` gives it these.

use std::io::Write as _;

use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use rustls::CertificateCompressionAlgorithm;
use rustls::compress::{CertCompressor, CompressionFailed, CompressionLevel};

/// What clients that take compressed certificates may choose from.
pub(super) const ALL: [&dyn CertCompressor; 2] = [&Brotli, &Zlib];

/// As Chromium takes it.
#[derive(Debug)]
struct Brotli;

/// As Safari takes it.
#[derive(Debug)]
struct Zlib;

impl CertCompressor for Brotli {
    fn compress(&self, input: Vec<u8>, level: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        let params = BrotliEncoderParams {
            quality: match level {
                CompressionLevel::Interactive => 4,
                CompressionLevel::Amortized => 11,
            },
            size_hint: input.len(),
            ..BrotliEncoderParams::default()
        };
        let mut compressed = Vec::with_capacity(input.len());
        brotli::BrotliCompress(&mut input.as_slice(), &mut compressed, &params).map_err(|_| CompressionFailed)?;
        Ok(compressed)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        CertificateCompressionAlgorithm::Brotli
    }
}

impl CertCompressor for Zlib {
    fn compress(&self, input: Vec<u8>, level: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        let level = match level {
            CompressionLevel::Interactive => Compression::fast(),
            CompressionLevel::Amortized => Compression::best(),
        };
        let mut encoder = ZlibEncoder::new(Vec::with_capacity(input.len()), level);
        encoder.write_all(&input).map_err(|_| CompressionFailed)?;
        encoder.finish().map_err(|_| CompressionFailed)
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        CertificateCompressionAlgorithm::Zlib
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// A client that asked for compression could not read the certificate.
    #[test]
    fn what_is_compressed_comes_back() {
        let input: Vec<u8> = (0..4_000_u32).map(|n| (n * n / 97) as u8).collect();
        for level in [CompressionLevel::Interactive, CompressionLevel::Amortized] {
            for compressor in ALL {
                let compressed = compressor.compress(input.clone(), level).unwrap();
                let mut back = Vec::new();
                match compressor.algorithm() {
                    CertificateCompressionAlgorithm::Brotli => {
                        brotli::BrotliDecompress(&mut compressed.as_slice(), &mut back).unwrap();
                    }
                    _ => {
                        flate2::read::ZlibDecoder::new(compressed.as_slice())
                            .read_to_end(&mut back)
                            .unwrap();
                    }
                }
                assert_eq!(back, input, "{:?}", compressor.algorithm());
            }
        }
    }
}
