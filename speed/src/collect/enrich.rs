//! What a request itself tells about its events: the client's country and device.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, header};
use maxminddb::path;
use reckon_schemas::event::{EventDraft, limits};
use woothee::parser::Parser;

use super::{Error, Tuning};

/// Finds countries and devices.
pub(crate) struct Enricher {
    country_header: Option<HeaderName>,
    client_address_header: Option<HeaderName>,
    geoip: Option<maxminddb::Reader<Vec<u8>>>,
    user_agents: Parser,
}

/// What is known about a client. An event's own properties of these names stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Client {
    /// ISO 3166-1 alpha-2.
    pub(crate) country: Option<String>,
    /// `desktop`, `mobile`, `tablet`, `appliance` (television, console) or `crawler`.
    pub(crate) device: Option<&'static str>,
}

impl Enricher {
    /// Reads the MaxMind file, if there is one.
    pub(crate) fn open(tuning: &Tuning) -> Result<Self, Error> {
        let header = |key: &'static str, name: &Option<String>| {
            name.as_ref()
                .map(|name| HeaderName::try_from(name.as_str()))
                .transpose()
                .map_err(|error| Error::Configuration { key, reason: error.to_string() })
        };
        let geoip = tuning.geoip_file.as_ref().map(|file| {
            maxminddb::Reader::open_readfile(file).map_err(|error| Error::Configuration {
                key: "collect.geoip_file",
                reason: format!("cannot read {}: {error}", file.display()),
            })
        });
        Ok(Self {
            country_header: header("collect.country_header", &tuning.country_header)?,
            client_address_header: header("collect.client_address_header", &tuning.client_address_header)?,
            geoip: geoip.transpose()?,
            user_agents: Parser::new(),
        })
    }

    /// The client that sent the request.
    pub(crate) fn client(&self, headers: &HeaderMap, peer: SocketAddr) -> Client {
        let country = self.country_of_header(headers).or_else(|| self.country_of(self.address(headers, peer)?));
        let device = text(headers, &header::USER_AGENT).and_then(|agent| self.device_of(agent));
        Client { country, device }
    }

    /// The country of an address, if there is a file and it knows the address.
    pub(crate) fn country_of(&self, address: IpAddr) -> Option<String> {
        // An address that cannot be looked up is as unknown as one that is not in the file.
        self.geoip.as_ref()?.lookup(address).ok()?.decode_path(&path!["country", "iso_code"]).ok()?
    }

    /// The kind of device that a User-Agent names; nothing for programs such as HTTP libraries.
    pub(crate) fn device_of(&self, user_agent: &str) -> Option<&'static str> {
        let agent = self.user_agents.parse(user_agent)?;
        match agent.category {
            "pc" => Some("desktop"),
            "smartphone" if agent.os == "iPad" => Some("tablet"),
            // Android's own convention: only phones say Mobile.
            "smartphone" if agent.os == "Android" && !user_agent.contains("Mobile") => Some("tablet"),
            "smartphone" | "mobilephone" => Some("mobile"),
            "appliance" => Some("appliance"),
            "crawler" => Some("crawler"),
            _ => None,
        }
    }

    fn country_of_header(&self, headers: &HeaderMap) -> Option<String> {
        let country = text(headers, self.country_header.as_ref()?)?.trim().to_ascii_uppercase();
        // XX is what proxies send for an unknown country; other codes (T1 for Tor) are not countries.
        let is_country = country.len() == 2 && country.bytes().all(|byte| byte.is_ascii_uppercase()) && country != "XX";
        is_country.then_some(country)
    }

    fn address(&self, headers: &HeaderMap, peer: SocketAddr) -> Option<IpAddr> {
        match &self.client_address_header {
            // Entries before the last one are the client's own words.
            Some(name) => {
                headers.get_all(name).iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
            }
            None => Some(peer.ip()),
        }
    }
}

impl Client {
    /// Adds what the event does not say itself, as far as there is room.
    pub(crate) fn enrich(&self, draft: &mut EventDraft) {
        let known = [("country", self.country.as_deref()), ("device", self.device)];
        for (name, value) in known {
            if let (Some(value), true) = (value, draft.properties.len() < limits::PROPERTIES_MAX) {
                draft.properties.insert(name, value.to_owned());
            }
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enricher() -> Enricher {
        let tuning = Tuning {
            country_header: Some("CF-IPCountry".to_owned()),
            client_address_header: Some("x-forwarded-for".to_owned()),
            ..Tuning::default()
        };
        Enricher::open(&tuning).expect("valid")
    }

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().expect("a header value"))])
    }

    #[test]
    fn devices_are_told_apart() {
        let enricher = enricher();
        for (agent, device) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                Some("desktop"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                Some("mobile"),
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 12_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1",
                Some("tablet"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; SM-X200) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
                Some("tablet"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
                Some("mobile"),
            ),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", Some("crawler")),
            ("curl/8.5.0", None),
            ("", None),
        ] {
            assert_eq!(enricher.device_of(agent), device, "{agent}");
        }
    }

    #[test]
    fn the_country_comes_from_the_proxy() {
        let enricher = enricher();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let country = |value| enricher.client(&headers("cf-ipcountry", value), peer).country;
        assert_eq!(country("de").as_deref(), Some("DE"));
        for unknown in ["XX", "T1", "Germany", ""] {
            assert_eq!(country(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_nearest_proxies_word_counts() {
        let enricher = enricher();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let address = |value| enricher.address(&headers("x-forwarded-for", value), peer);
        assert_eq!(address("1.2.3.4, 5.6.7.8"), Some(IpAddr::from([5, 6, 7, 8])));
        assert_eq!(address("forged"), None);
        assert_eq!(enricher.address(&HeaderMap::new(), peer), None, "a missing header is not replaced by the proxy");
    }

    #[test]
    fn a_missing_file_names_its_key() {
        let tuning = Tuning { geoip_file: Some("/nowhere.mmdb".into()), ..Tuning::default() };
        let error = Enricher::open(&tuning).err().expect("there is no such file").to_string();
        assert!(error.contains("collect.geoip_file") && error.contains("/nowhere.mmdb"), "{error}");
    }

    #[test]
    fn what_the_event_says_stays() {
        let item = r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","properties":{"device":"till"}}"#;
        let mut draft = EventDraft::from_native(item).expect("valid");
        Client { country: Some("DE".to_owned()), device: Some("mobile") }.enrich(&mut draft);
        assert_eq!(draft.properties.get("device"), Some("till"));
        assert_eq!(draft.properties.get("country"), Some("DE"));
    }
}
