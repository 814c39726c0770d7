//! Telling another system that an alert changed, as Standard Webhooks describe it: signed, and never to an address inside
//! of this network.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url, redirect};
use standardwebhooks::Webhook;

/// What a receiver may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const SECRET_PREFIX: &str = "whsec_";

/// Addresses that are no public ones: this host, private networks, links, carriers' networks, documentation, tests,
/// multicast, and IPv6 forms that hide an IPv4 address (RFC 6890 and the IANA registries behind it).
const NOT_PUBLIC: [&str; 28] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "ff00::/8",
];

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undelivered {
    /// Trying again may help.
    #[error("{0}")]
    Later(String),
    /// It will not.
    #[error("{0}")]
    Never(String),
}

/// Sends messages.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    not_public: Vec<IpNet>,
    /// Networks of this installation that may be told all the same.
    allowed: Vec<IpNet>,
}

/// A message, the same whenever it is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// By which a receiver knows it again.
    pub(crate) id: String,
    pub(crate) body: String,
}

impl Webhooks {
    pub(crate) fn new(allowed: &[IpNet]) -> Self {
        let not_public = NOT_PUBLIC.iter().filter_map(|net| net.parse().ok()).collect();
        Self { not_public, allowed: allowed.to_vec() }
    }

    /// Reads an address that messages may be sent to, as far as its text tells.
    ///
    /// # Errors
    /// What is wrong with it, for who wrote it.
    pub(crate) fn check(&self, address: &str) -> Result<Url, String> {
        let url: Url = address.parse().map_err(|error| format!("is no URL: {error}"))?;
        let host = url.host_str().ok_or("has no host")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not contain a user or a password: messages are signed instead".to_owned());
        }
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        if literal.is_some_and(|address| !self.is_allowed(address)) {
            return Err("is an address inside of a network".to_owned());
        }
        let is_own = literal.is_some_and(|address| self.allowed.iter().any(|net| net.contains(&address)));
        if url.scheme() == "https" || (url.scheme() == "http" && is_own) {
            Ok(url)
        } else {
            Err("must begin with https://".to_owned())
        }
    }

    /// Sends a message once. The name is looked up once, and the address that was judged is the one that is asked.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub(crate) async fn send(
        &self,
        address: &str,
        secret: &str,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), Undelivered> {
        let url = self.check(address).map_err(Undelivered::Never)?;
        let later = |error: &dyn std::fmt::Display| Undelivered::Later(error.to_string());
        let host = url.host_str().unwrap_or_default().to_owned();
        let port = url.port_or_known_default().unwrap_or(443);
        let looked_up =
            tokio::time::timeout(ANSWER_TIME_MAX, tokio::net::lookup_host((host.trim_matches(['[', ']']), port)));
        let addresses: Vec<SocketAddr> = match looked_up.await {
            Ok(found) => found.map_err(|error| later(&error))?.collect(),
            Err(_) => return Err(Undelivered::Later(format!("{host} cannot be looked up"))),
        };
        // One address of ours among others is one too many: which of them is asked would be chance.
        if addresses.is_empty() || addresses.iter().any(|address| !self.is_allowed(address.ip())) {
            return Err(Undelivered::Never(format!("{host} is an address inside of a network, or none")));
        }
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(ANSWER_TIME_MAX)
            .resolve_to_addrs(&host, &addresses)
            .build()
            .map_err(|error| later(&error))?;
        let at_s = now.as_second();
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", at_s.to_string())
            .header("webhook-signature", signature(secret, &message.id, at_s, &message.body)?)
            .body(message.body.clone());
        let answer = request.send().await.map_err(|error| later(&error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(Undelivered::Never("the receiver wants no more messages (410)".to_owned())),
            status => Err(Undelivered::Later(format!("the receiver answered {status}"))),
        }
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        // `::ffff:10.0.0.1` is `10.0.0.1`.
        let address = address.to_canonical();
        self.allowed.iter().any(|net| net.contains(&address))
            || !self.not_public.iter().any(|net| net.contains(&address))
    }
}

/// Of an address only where it leads to: the rest of it may be a secret of the receiver.
pub(crate) fn origin(address: &str) -> String {
    address.parse::<Url>().map_or_else(|_| "a webhook".to_owned(), |url| url.origin().ascii_serialization())
}

/// A new secret from random bytes, in the form that receivers' libraries read.
pub(crate) fn secret_from_random(random: [u8; 24]) -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(random))
}

fn signature(secret: &str, id: &str, at_s: i64, body: &str) -> Result<String, Undelivered> {
    let unusable = || Undelivered::Never("the secret of this webhook is unusable: make the alert again".to_owned());
    let webhook = Webhook::new(secret).map_err(|_| unusable())?;
    webhook.sign(id, at_s, body.as_bytes()).map_err(|_| unusable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the Standard Webhooks' reference libraries.
        let signed = signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signed.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn inside_addresses_are_refused_in_every_form() {
        let webhooks = Webhooks::new(&[]);
        for address in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.1.2.3/hook",
            "https://169.254.169.254/latest/meta-data",
            "https://[::1]/",
            "https://[::ffff:192.168.1.1]/",
            "https://[fe80::1]/",
            "https://[64:ff9b::10.0.0.1]/",
            "http://example.com/",
            "https://user:secret@example.com/",
            "ftp://example.com/",
            "example.com",
        ] {
            assert!(webhooks.check(address).is_err(), "{address}");
        }
        for address in ["https://example.com/hook?x=1", "https://93.184.215.14:8443/", "https://[2606:4700::1]/"] {
            assert!(webhooks.check(address).is_ok(), "{address}");
        }
        let own = Webhooks::new(&["127.0.0.1/32".parse().expect("a network")]);
        assert!(own.check("http://127.0.0.1:8080/").is_ok() && own.check("http://127.0.0.2:8080/").is_err());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_found_out_when_it_is_looked_up() {
        let message = Message { id: "1".to_owned(), body: "{}".to_owned() };
        let secret = secret_from_random([7; 24]);
        let sent = Webhooks::new(&[]).send("https://localhost/", &secret, &message, Timestamp::UNIX_EPOCH).await;
        assert!(matches!(sent, Err(Undelivered::Never(_))), "{sent:?}");
    }
}
