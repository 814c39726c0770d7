//! The real binary as a child process: started, killed, stopped in good order, and never left behind.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// A running `reckon`. Killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// What a command that ran to its end left.
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub log: String,
}

/// The `reckon` binary beside the tests: `make test` builds it first.
pub fn binary() -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let folder = tests.parent().and_then(Path::parent).context("the test binary has no folder")?;
    let binary = folder.join("reckon");
    if !binary.exists() {
        bail!("{} is missing: build it first (`make test` does)", binary.display());
    }
    Ok(binary)
}

fn command(config: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("--config").arg(config).args(["--log-format", "text"]).args(arguments).stdin(Stdio::null());
    // What the shared stack's addresses are must come from the test's own configuration alone.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RECKON_") && name != "RECKON_LOG" {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Runs a command to its end.
pub fn run(config: &Path, arguments: &[&str]) -> Result<Finished> {
    let output = command(config, arguments)?.output()?;
    Ok(Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The same with something on standard input.
pub fn run_with_input(config: &Path, arguments: &[&str], input: &str) -> Result<Finished> {
    let mut command = command(config, arguments)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().context("its input")?;
    // One that does not read it has ended with a reason of its own.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    Ok(Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        log: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Process {
    /// Starts a long-running part; its log goes to a file that is shown if the test fails.
    pub fn start(config: &Path, arguments: &[&str], log: PathBuf) -> Result<Self> {
        Self::start_in(config, arguments, log, &[])
    }

    /// The same with more variables in its environment.
    pub fn start_in(config: &Path, arguments: &[&str], log: PathBuf, variables: &[(String, String)]) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&log)?;
        let mut command = command(config, arguments)?;
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let child = command.stdout(file.try_clone()?).stderr(file).spawn()?;
        Ok(Self { child, log })
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `SIGSTOP`.
    pub fn pause(&self) -> Result<()> {
        self.signal("-STOP")
    }

    /// `SIGCONT`.
    pub fn resume(&self) -> Result<()> {
        self.signal("-CONT")
    }

    /// Asks it to stop (SIGTERM) without waiting for it.
    pub fn ask_to_stop(&self) -> Result<()> {
        self.signal("-TERM")
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status()?;
        ensure!(sent.success(), "kill {signal} {}: {sent}", self.child.id());
        Ok(())
    }

    /// The most memory that it ever had, in bytes.
    pub fn memory_peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        Ok(peak.context("VmHWM")?.parse::<u64>()? * 1024)
    }

    /// Asks it to stop (SIGTERM) and waits at most 20 seconds.
    #[expect(clippy::disallowed_methods, reason = "a test may wait for a child")]
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.ask_to_stop()?;
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it did not stop within 20 s of SIGTERM:\n{}", self.log_tail())
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// How much memory it has in use.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024)
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of it.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let running = matches!(self.child.try_wait(), Ok(None));
        if running {
            // Dropped without `stop` or `kill`: the test is failing, or does not care.
            if std::thread::panicking() {
                eprintln!("--- end of {}:\n{}", self.log.display(), self.log_tail());
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
