"""An OpenID provider for tests: oidc_provider_mock, which insists on PKCE here. Arguments: PORT."""

import sys

import werkzeug.serving
from authlib.oauth2.rfc6749.errors import InvalidRequestError
from authlib.oauth2.rfc7636 import CodeChallenge
from oidc_provider_mock import _app

CHALLENGES: dict[str, tuple[str, str]] = {}


class Challenge(CodeChallenge):
    """Refuses who sends no challenge, and who has not the verifier that goes with it."""

    def validate_code_challenge(self, grant, redirect_uri):
        if grant.request.payload.data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE with S256 is required")
        super().validate_code_challenge(grant, redirect_uri)

    def get_authorization_code_challenge(self, authorization_code):
        return CHALLENGES[authorization_code.code][0]

    def get_authorization_code_challenge_method(self, authorization_code):
        return CHALLENGES[authorization_code.code][1]


class Grant(_app.AuthorizationCodeGrant):
    """Remembers the challenge of each code."""

    def save_authorization_code(self, code, request):
        data = request.payload.data
        CHALLENGES[code] = (data.get("code_challenge"), data.get("code_challenge_method"))
        super().save_authorization_code(code, request)


class Server(_app.flask_oauth2.AuthorizationServer):
    """The provider's server, with both."""

    def register_grant(self, grant, extensions=None):
        if grant is Grant:
            extensions = [*extensions, Challenge(required=True)]
        super().register_grant(grant, extensions)


_app.AuthorizationCodeGrant = Grant
_app.flask_oauth2.AuthorizationServer = Server

server = werkzeug.serving.make_server("127.0.0.1", int(sys.argv[1]), _app.app(require_nonce=True), threaded=True)
print("ready", flush=True)
server.serve_forever()
