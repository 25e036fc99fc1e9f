//! Whoever could tell a sound padding from another decrypts recorded sessions by asking
//! (Bleichenbacher 1998): neither what comes back nor when may depend on it, with a key here or
//! elsewhere.

use std::time::Instant;

use crate::device::{Device, Inside, MODULUS, UNSOUND, alert, encrypt};
use crate::world::{HERE, OLD, World};

const BAD_RECORD_MAC: u8 = 20;
const DECRYPT_ERROR: u8 = 51;

#[test]
fn answers_tell_nothing() {
    let world = World::start();
    for host in [OLD, HERE] {
        let ask = |encrypted: &[u8]| {
            let mut device = Device::connect(&world, host).met();
            device.send(encrypted);
            device.rest()
        };
        // With the right premaster it is the Finished that is wrong; so it is with every other.
        for inside in [Inside::Sound].into_iter().chain(UNSOUND) {
            let answer = ask(&encrypt(&world, host, inside, 9));
            assert_eq!(answer, alert(BAD_RECORD_MAC), "{host} {inside:?}");
        }
        // No numbers below the modulus.
        for bytes in [[0; MODULUS], [0xff; MODULUS]] {
            assert_eq!(ask(&bytes), alert(BAD_RECORD_MAC), "{host}");
        }
        // Of another length, which the sender knows.
        for length in [1, MODULUS - 1, MODULUS + 1, 384] {
            assert_eq!(ask(&vec![1; length]), alert(DECRYPT_ERROR), "{host} {length}");
        }
    }
    let log = world.log();
    for word in ["padding", "premaster has"] {
        assert!(!log.contains(word), "{log}");
    }
}

/// Welch's t of two samples, each without its slowest fifth (interrupts, other processes).
fn welch(mut samples: [Vec<f64>; 2]) -> f64 {
    let [a, b] = samples.each_mut().map(|sample| {
        sample.sort_by(f64::total_cmp);
        sample.truncate(sample.len() * 4 / 5);
        let n = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / n;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    });
    (a.0 - b.0) / (a.1 + b.1).sqrt()
}

/// From the device's side, over loopback: the time from the premaster to the alert. The key
/// server's own test looks closer.
#[test]
fn time_tells_nothing() {
    let world = World::start();
    for host in [OLD, HERE] {
        let sound: Vec<_> = (1..=5).map(|n| encrypt(&world, host, Inside::Sound, n)).collect();
        let unsound: Vec<_> = UNSOUND.iter().map(|inside| encrypt(&world, host, *inside, 1)).collect();
        let mut order = 0x9e37_79b9_7f4a_7c15_u64;
        let mut measure = |n: usize| {
            let mut samples = [Vec::new(), Vec::new()];
            while samples.iter().any(|sample: &Vec<f64>| sample.len() < n) {
                // xorshift64 (Marsaglia 2003): an order that nobody can predict.
                order ^= order << 13;
                order ^= order >> 7;
                order ^= order << 17;
                let class = usize::from(order & 1 == 1);
                let inputs = [&sound, &unsound][class];
                let mut device = Device::connect(&world, host).met();
                let start = Instant::now();
                device.send(&inputs[(order >> 8) as usize % inputs.len()]);
                assert_eq!(device.rest(), alert(BAD_RECORD_MAC));
                samples[class].push(start.elapsed().as_nanos() as f64);
            }
            welch(samples).abs()
        };
        // A machine that is busy makes a difference now and then; a leak makes one always.
        let seen: Vec<f64> = (0..4).map(|_| measure(150)).take_while(|t| *t > 6.0).collect();
        assert!(seen.len() < 4, "{host}: {seen:?}");
    }
}
