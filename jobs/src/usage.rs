//! What a process has used so far, from the kernel's own accounts.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The kernel counts processor time in hundredths of a second, on every architecture we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time and memory of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) user_seconds: f64,
    pub(crate) system_seconds: f64,
    pub(crate) rss_bytes: u64,
    pub(crate) rss_bytes_max: u64,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        let stat = read("stat")?;
        // The name in parentheses may hold anything; the fields are counted after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        let status = read("status")?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        Ok(Self {
            user_seconds: ticks(11) / TICKS_PER_SECOND,
            system_seconds: ticks(12) / TICKS_PER_SECOND,
            rss_bytes: kilobytes("VmRSS:") * 1024,
            rss_bytes_max: kilobytes("VmHWM:") * 1024,
        })
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }

    /// Both processes together.
    pub(crate) fn and(self, other: Usage) -> Usage {
        Usage {
            user_seconds: self.user_seconds + other.user_seconds,
            system_seconds: self.system_seconds + other.system_seconds,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            rss_bytes_max: self.rss_bytes_max + other.rss_bytes_max,
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu_user_seconds": rounded(self.user_seconds),
            "cpu_system_seconds": rounded(self.system_seconds),
            "rss_bytes": self.rss_bytes,
            "rss_bytes_max": self.rss_bytes_max,
        })
    }
}

/// For how many seconds all processors together have worked since the machine started, whoever for.
pub(crate) fn machine_busy_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let fields: Vec<f64> = stat.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
    // User, nice, system, idle, waiting for disks, interrupts twice, stolen.
    let [user, nice, system, _, _, interrupts, soft, _] = fields[..] else { bail!("/proc/stat has no times") };
    Ok((user + nice + system + interrupts + soft) / TICKS_PER_SECOND)
}

/// A measurement, rounded to milliseconds.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).expect("it runs");
        assert!(machine_busy_seconds().expect("a kernel that counts") >= usage.cpu_seconds());
        assert!(usage.rss_bytes > 1_000_000 && usage.rss_bytes_max >= usage.rss_bytes, "{usage:?}");
    }
}
