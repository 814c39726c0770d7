//! Compiles the crate again when the page was built again.

use std::path::Path;

fn main() {
    // Cargo runs this each time if a path is missing, so the folder is only watched where it exists; before that, its
    // appearance in the folder above is what to look out for.
    let built = Path::new("ui/dist").is_dir();
    println!("cargo:rerun-if-changed={}", if built { "ui/dist" } else { "ui" });
}
