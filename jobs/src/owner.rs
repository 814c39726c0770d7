//! Who this process is, for those who wait for it.

/// A command, the host and the process, as the lock names its owner.
pub(crate) fn of(command: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "an unnamed host" } else { host.trim() };
    format!("reckon {command} on {host}, process {}", std::process::id())
}
