use std::os::unix::fs::{PermissionsExt, symlink};

use reckon_schemas::time::Zone;

use super::*;

const COMMENTED: &str = r#"# Who runs this: ada@example.com
[[tenants]]
id = "first" # the oldest
time_zone   =   "Europe/Berlin"
rollups = [
    "country", # asked for by sales
]

# What they pay.
[[tenants.metrics]]
name = "revenue"
event = "purchase"
measure = "money"
currency = "EUR"
# The end of first.
"#;

fn tenant(id: &str) -> Tenant {
    Tenant::new(id.parse().expect("valid"), Zone::UTC)
}

struct Scene {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn scene(text: &str) -> Scene {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("catalog.toml");
    fs::write(&path, text).expect("writable");
    Scene { folder, path }
}

impl Scene {
    fn add(&self, tenant: &Tenant) -> Result<(), Exit> {
        let file = CatalogFile::open(&self.path)?;
        file.replace(&file.with(tenant)?)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).expect("readable")
    }

    fn names(&self) -> Vec<String> {
        let catalog = parse_catalog(&self.path, &self.text()).expect("valid");
        catalog.tenants.iter().map(|tenant| tenant.id.to_string()).collect()
    }
}

#[test]
fn what_people_wrote_stays_as_it_was() {
    let scene = scene(COMMENTED);
    scene.add(&tenant("second")).expect("added");
    assert_eq!(scene.text(), format!("{COMMENTED}\n[[tenants]]\nid = \"second\"\ntime_zone = \"UTC\"\n"));
    let before = scene.text();
    scene.add(&tenant("third")).expect("added");
    assert!(scene.text().starts_with(&before), "{}", scene.text());
    assert_eq!(scene.names(), ["first", "second", "third"]);
    assert_eq!(fs::read_dir(scene.folder.path()).expect("a folder").count(), 1, "something was left behind");
}

#[test]
fn the_first_tenant_takes_the_place_of_none() {
    let scene = scene("# Nobody yet.\ntenants = []\n# The end");
    scene.add(&tenant("first")).expect("added");
    assert_eq!(scene.text(), "# Nobody yet.\n# The end\n\n[[tenants]]\nid = \"first\"\ntime_zone = \"UTC\"\n");
}

#[test]
fn what_would_not_be_valid_is_not_written() {
    for (text, added, why) in [
        (COMMENTED, tenant("first"), "there twice"),
        (COMMENTED, Tenant { rollups: vec!["user_id".parse().expect("a rollup")], ..tenant("second") }, "user_id"),
        ("tenants = [{ id = \"first\", time_zone = \"UTC\" }]", tenant("second"), "[[tenants]]"),
    ] {
        let scene = scene(text);
        let refused = scene.add(&added).expect_err(why);
        assert!(matches!(&refused, Exit::Config(error) if error.to_string().contains(why)), "{refused}");
        assert_eq!(scene.text(), text);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let gone = Path::new("/nowhere/catalog.toml");
    let error = CatalogFile::open(gone).err().expect("it is not there").to_string();
    assert!(error.contains("/nowhere/catalog.toml"), "{error}");
    for (text, why) in [("tenants = 1", "invalid type"), ("[[tenants]]\nid = 'a", "line 2"), ("", "tenants")] {
        let error = CatalogFile::open(&scene(text).path).err().expect(why).to_string();
        assert!(error.contains(why) && error.contains("catalog.toml"), "{error}");
    }
}

#[test]
fn a_read_only_file_stays_and_the_way_out_is_told() {
    let scene = scene(COMMENTED);
    fs::set_permissions(&scene.path, fs::Permissions::from_mode(0o444)).expect("ours");
    assert!(CatalogFile::open(&scene.path).is_ok(), "it can be looked at");
    let refused = scene.add(&tenant("second")).expect_err("read-only").to_string();
    assert!(refused.contains("read-only") && refused.contains("--print"), "{refused}");
    assert_eq!(scene.text(), COMMENTED);
}

#[test]
fn who_could_read_it_still_can_and_a_link_stays_one() {
    let scene = scene(COMMENTED);
    fs::set_permissions(&scene.path, fs::Permissions::from_mode(0o640)).expect("ours");
    let link = scene.folder.path().join("link.toml");
    symlink("catalog.toml", &link).expect("a link");
    let file = CatalogFile::open(&link).expect("readable");
    file.replace(&file.with(&tenant("second")).expect("valid")).expect("replaced");
    assert_eq!(fs::metadata(&scene.path).expect("there").permissions().mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert_eq!(scene.names(), ["first", "second"]);
}

#[test]
fn nobody_overwrites_what_another_one_adds() {
    let scene = scene(COMMENTED);
    std::thread::scope(|threads| {
        for number in 0..16 {
            let scene = &scene;
            threads.spawn(move || scene.add(&tenant(&format!("t{number}"))).expect("added"));
        }
    });
    let (mut names, mut expected) = (scene.names(), vec!["first".to_owned()]);
    expected.extend((0..16).map(|number| format!("t{number}")));
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
}
