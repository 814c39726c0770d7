//! Sign-in by an OpenID provider: authorization code with PKCE, state and nonce.
//!
//! The provider vouches for an address (`email_verified`); whoever has it becomes the account of that address, and a
//! password that somebody set for it before is forgotten, because nobody had vouched for that.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use jiff::Timestamp;
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreProviderMetadata, CoreUserInfoClaims};
use openidconnect::{
    AccessToken, AsyncHttpClient, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointMaybeSet,
    EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::invitations::take_all;
use super::users::{User, checked_email, insert_user, user_by_email};
use super::{Accounts, Error, Oidc, micros, secret};

/// How long what the provider says about itself, its keys included, is believed.
const BELIEVED: Duration = Duration::from_secs(600);
/// How long somebody may stay at the provider.
const AWAY_S_MAX: i64 = 600;
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer of a provider.
const ANSWER_BYTES_MAX: usize = 1 << 20;

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// What a provider said about itself, and when.
#[derive(Clone, Default)]
pub(super) struct Provider(Arc<Mutex<Option<(Instant, CoreProviderMetadata)>>>);

/// Where a person is sent, and what their browser keeps until they come back.
pub(crate) struct Departure {
    pub(crate) url: String,
    pub(crate) kept: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    state: String,
    nonce: String,
    verifier: String,
    /// When they left, in seconds since 1970.
    left_s: i64,
}

/// A person as the provider knows them.
struct Vouched {
    issuer: String,
    subject: String,
    /// Only if the provider has verified it.
    email: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error(transparent)]
    Reqwest(#[from] reqwest::Error),
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

impl Accounts {
    /// What the page calls the provider, if there is one.
    pub(crate) fn provider_name(&self) -> Option<&str> {
        self.tuning.oidc.as_ref().map(|oidc| oidc.name.as_str())
    }

    /// Where to send somebody who wants to sign in by the provider.
    pub(crate) async fn depart(&self) -> Result<Departure, Error> {
        let client = self.client(&Http::new()?).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state, nonce) = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scope(Scope::new("email".to_owned()))
            .set_pkce_challenge(challenge)
            .url();
        let kept = Kept {
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
            left_s: Timestamp::now().as_second(),
        };
        let kept = serde_json::to_vec(&kept).map_err(|error| Error::Broken(error.to_string()))?;
        Ok(Departure { url: url.into(), kept: URL_SAFE_NO_PAD.encode(kept) })
    }

    /// Who came back, if the provider says so and they have an account or an invitation.
    pub(crate) async fn arrive(&self, kept: &str, state: &str, code: String) -> Result<Option<User>, Error> {
        let kept = URL_SAFE_NO_PAD.decode(kept).ok().and_then(|json| serde_json::from_slice::<Kept>(&json).ok());
        let in_time = |kept: &Kept| (0..AWAY_S_MAX).contains(&(Timestamp::now().as_second() - kept.left_s));
        let kept = kept.filter(in_time).filter(|kept| secret::is_same(&kept.state, state));
        let Some(kept) = kept else { return Ok(None) };
        match self.vouched(kept, code).await {
            Ok(Some(vouched)) => self.user_of(vouched).await,
            Ok(None) => Ok(None),
            Err(error) => {
                // Perhaps it has other keys now.
                *self.provider.0.lock().await = None;
                Err(error)
            }
        }
    }

    /// `None` if the provider does not take the code.
    async fn vouched(&self, kept: Kept, code: String) -> Result<Option<Vouched>, Error> {
        let http = Http::new()?;
        let client = self.client(&http).await?;
        let answer = client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| Error::Provider(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(kept.verifier))
            .request_async(&http)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(RequestTokenError::ServerResponse(_)) => return Ok(None),
            Err(error) => return Err(Error::Provider(format!("the code: {error}"))),
        };
        let id_token: &CoreIdToken =
            answer.id_token().ok_or_else(|| Error::Provider("it sent no ID token".to_owned()))?;
        let claims = id_token
            .claims(&client.id_token_verifier(), &Nonce::new(kept.nonce))
            .map_err(|error| Error::Provider(format!("the ID token: {error}")))?;
        let verified = claims.email_verified().unwrap_or(false);
        let mut email = claims.email().filter(|_| verified).map(|email| email.as_str().to_owned());
        if claims.email().is_none() {
            email = self.ask_for_email(&client, &http, answer.access_token().clone(), claims.subject().clone()).await?;
        }
        let (issuer, subject) = (claims.issuer().as_str().to_owned(), claims.subject().as_str().to_owned());
        Ok(Some(Vouched { issuer, subject, email }))
    }

    /// Some providers tell the address only there.
    async fn ask_for_email(
        &self,
        client: &Client,
        http: &Http,
        token: AccessToken,
        subject: openidconnect::SubjectIdentifier,
    ) -> Result<Option<String>, Error> {
        let Ok(request) = client.user_info(token, Some(subject)) else { return Ok(None) };
        let claims: CoreUserInfoClaims =
            request.request_async(http).await.map_err(|error| Error::Provider(format!("the user info: {error}")))?;
        let verified = claims.email_verified().unwrap_or(false);
        Ok(claims.email().filter(|_| verified).map(|email| email.as_str().to_owned()))
    }

    async fn client(&self, http: &Http) -> Result<Client, Error> {
        let oidc = self.tuning.oidc.as_ref().ok_or(Error::Missing)?;
        let invalid = |error: url::ParseError| Error::Provider(format!("accounts.oidc: {error}"));
        let redirect = RedirectUrl::new(oidc.redirect_url.clone()).map_err(invalid)?;
        let metadata = self.metadata(oidc, http).await?;
        let (id, secret) = (ClientId::new(oidc.client_id.clone()), ClientSecret::new(oidc.client_secret.clone()));
        Ok(CoreClient::from_provider_metadata(metadata, id, Some(secret)).set_redirect_uri(redirect))
    }

    async fn metadata(&self, oidc: &Oidc, http: &Http) -> Result<CoreProviderMetadata, Error> {
        let mut believed = self.provider.0.lock().await;
        if let Some((at, metadata)) = believed.as_ref()
            && at.elapsed() < BELIEVED
        {
            return Ok(metadata.clone());
        }
        let invalid = |error: url::ParseError| Error::Provider(format!("accounts.oidc.issuer: {error}"));
        let issuer = IssuerUrl::new(oidc.issuer.clone()).map_err(invalid)?;
        let metadata = CoreProviderMetadata::discover_async(issuer, http)
            .await
            .map_err(|error| Error::Provider(format!("its description: {error}")))?;
        *believed = Some((Instant::now(), metadata.clone()));
        Ok(metadata)
    }

    async fn user_of(&self, vouched: Vouched) -> Result<Option<User>, Error> {
        let email = vouched.email.as_deref().and_then(|email| checked_email(email).ok());
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                let known: Option<(String, String, Option<String>)> = sqlx::query_as(
                    "SELECT users.id, users.email, users.password FROM identities \
                     JOIN users ON users.id = identities.user_id WHERE identities.issuer = $1 AND identities.subject = $2",
                )
                .bind(&vouched.issuer)
                .bind(&vouched.subject)
                .fetch_optional(&mut *transaction)
                .await?;
                let user = match known {
                    Some((id, email, password)) => User { id, email, password },
                    None => {
                        let Some(email) = &email else { return Ok(None) };
                        let Some(user) = account_for(&mut transaction, email).await? else { return Ok(None) };
                        sqlx::query("INSERT INTO identities (issuer, subject, user_id) VALUES ($1, $2, $3)")
                            .bind(&vouched.issuer)
                            .bind(&vouched.subject)
                            .bind(&user.id)
                            .execute(&mut *transaction)
                            .await?;
                        user
                    }
                };
                if email.as_ref() == Some(&user.email) {
                    take_all(&mut transaction, &user).await?;
                }
                transaction.commit().await?;
                Ok(Some(user))
            })
            .await
    }
}

/// The account of an address that somebody vouches for: the one that there is, without its password, or a new one, if
/// there is an invitation.
async fn account_for(transaction: &mut sqlx::AnyConnection, email: &str) -> Result<Option<User>, Error> {
    if let Some(user) = user_by_email(transaction, email).await? {
        sqlx::query("UPDATE users SET password = NULL WHERE id = $1").bind(&user.id).execute(&mut *transaction).await?;
        sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(&user.id).execute(transaction).await?;
        return Ok(Some(User { password: None, ..user }));
    }
    let (invited,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM invitations WHERE email = $1 AND expires_at > $2")
        .bind(email)
        .bind(micros(Timestamp::now()))
        .fetch_one(&mut *transaction)
        .await?;
    if invited == 0 {
        return Ok(None);
    }
    let id = insert_user(transaction, email, None).await?;
    Ok(Some(User { id, email: email.to_owned(), password: None }))
}

/// Follows no redirect: what a provider answers must not choose whom else to ask.
struct Http(reqwest::Client);

impl Http {
    fn new() -> Result<Self, Error> {
        let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).timeout(HTTP_TIMEOUT);
        builder.build().map(Self).map_err(|error| Error::Broken(error.to_string()))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = self.0.execute(request.try_into()?).await?;
        let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = BoxFuture<'c, Result<HttpResponse, HttpError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
