//! The real binary as a child process, never left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::usage::Usage;

const POLL: Duration = Duration::from_millis(20);
const STOP_MAX: Duration = Duration::from_secs(20);
const LOG_TAIL_LINES: usize = 15;

/// A running command. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a part of this very binary with a configuration file; what it logs goes to a file.
    pub(crate) fn reckon(config: &Path, part: &str, log: PathBuf) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--config").arg(config).args(["--log-format", "text", part]);
        Self::start_clean(command, log)
    }

    /// Starts a command without this process's settings, so that its configuration file alone says what it does.
    pub(crate) fn start_clean(mut command: Command, log: PathBuf) -> Result<Self> {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("RECKON_") {
                command.env_remove(name);
            }
        }
        // Its log is read for when it begins.
        command.env("RECKON_LOG", "info");
        Self::start(command, log)
    }

    /// Starts a command; what it prints goes to a file.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {:?}", command.get_program()))?;
        Ok(Self { child, log })
    }

    /// What it has used so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("a child ended too early ({status}):\n{}", self.log_tail()),
        }
    }

    /// Whether its log contains a text by now.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    /// Waits until it ends by itself, and fails if it failed. Returns what it had used shortly before its end.
    pub(crate) async fn wait(mut self, time_max: Duration) -> Result<Usage> {
        let deadline = Instant::now() + time_max;
        let mut usage = Usage::default();
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(usage),
                Some(status) => bail!("a child failed ({status}):\n{}", self.log_tail()),
                None if Instant::now() > deadline => bail!("a child did not end within {time_max:?}"),
                None => {}
            }
            // The kernel keeps no accounts of memory for a process that is just ending.
            match self.usage() {
                Ok(now) if now.rss_bytes_max > 0 => usage = now,
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to stop and waits until it is gone.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let deadline = Instant::now() + STOP_MAX;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("a child did not stop within {STOP_MAX:?} of SIGTERM:\n{}", self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It is going away anyway; what cannot be killed is gone already.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
