//! Progress bars, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over a known number of things: done, of all, rate, time left. Hidden where standard error is no terminal.
pub(crate) fn bar(title: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(5));
    bar.set_style(
        ProgressStyle::with_template(
            "{prefix:>12} [{bar:32}] {human_pos}/{human_len} {msg} {per_sec} {eta_precise} left",
        )
        .expect("the template is constant")
        .progress_chars("=> "),
    );
    bar.set_prefix(title.to_owned());
    bar
}

/// A sign of life while the length is unknown.
pub(crate) fn spinner(title: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
    bar.set_style(
        ProgressStyle::with_template("{prefix:>12} {spinner} {msg} {elapsed}").expect("the template is constant"),
    );
    bar.set_prefix(title.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
