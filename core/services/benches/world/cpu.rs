//! CPU time of the whole process as what criterion measures: waiting for the disk says nothing about
//! the code, and neighbours on a shared machine do not count.

use std::time::Duration;

use criterion::{
    Throughput,
    measurement::{Measurement, ValueFormatter},
};
use nix::sys::resource::{UsageWho, getrusage};

/// CPU time of the process.
pub struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask about itself");
        let micros = |time: nix::sys::time::TimeVal| {
            time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
        };
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    }

    fn end(&self, start: Duration) -> Duration {
        self.start().saturating_sub(start)
    }

    fn add(&self, one: &Duration, two: &Duration) -> Duration {
        *one + *two
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Micros
    }
}

/// Shows nanoseconds as microseconds.
struct Micros;

impl ValueFormatter for Micros {
    fn scale_values(&self, _: f64, values: &mut [f64]) -> &'static str {
        values.iter_mut().for_each(|value| *value /= 1_000.0);
        "µs of CPU"
    }

    fn scale_throughputs(&self, _: f64, amount: &Throughput, values: &mut [f64]) -> &'static str {
        if let Throughput::Elements(count) = amount {
            values.iter_mut().for_each(|value| *value = *count as f64 * 1e9 / *value);
        }
        "per second of CPU"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        let _ = values;
        "ns"
    }
}
