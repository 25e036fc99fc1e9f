//! AWS-LC's random generator, one for each thread: it gathers entropy for some 30 ms when the
//! thread uses it first. Threads that shake hands do that before they accept anybody.

/// Makes the calling thread's generator ready.
pub fn warm() {
    // Without randomness the first handshake fails, and says so.
    let _ = aws_lc_rs::rand::fill(&mut [0; 1]);
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Everybody on a worker would wait for its first handshake, after each start and hand-over.
    #[test]
    fn a_warm_thread_signs_at_once() {
        let took = std::thread::spawn(|| {
            warm();
            let start = Instant::now();
            for _ in 0..100 {
                aws_lc_rs::rand::fill(&mut [0; 32]).unwrap();
            }
            start.elapsed()
        });
        let took = took.join().unwrap();
        assert!(took < Duration::from_millis(10), "{took:?}");
    }
}
