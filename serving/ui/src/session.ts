/** People who sign in: the session itself is in a cookie that no script can read; what is here goes along with it. */

import { Api, refusal, Refused } from "./api";

/** Somebody who is signed in. */
export interface Session {
  email: string;
  tenant: string;
  tenants: string[];
  scopes: string[];
  csrf_token: string;
}

/** How people can sign in. */
export interface Ways {
  password: boolean;
  /** The name of the OpenID provider, if there is one. */
  oidc: string | null;
}

export function ways(): Promise<Ways> {
  return ask("GET", "v1/session/ways");
}

/** Who is signed in, or null. */
export async function current(): Promise<Session | null> {
  try {
    return await ask("GET", "v1/session");
  } catch (error) {
    if (error instanceof Refused && error.status === 401) return null;
    throw error;
  }
}

export function signIn(email: string, password: string): Promise<Session> {
  return ask("POST", "v1/session", { email, password });
}

export function accept(invitation: string, password: string): Promise<Session> {
  return ask("POST", "v1/session/accept", { invitation, password });
}

export async function signOut(session: Session): Promise<void> {
  await ask("DELETE", "v1/session", undefined, session.csrf_token);
}

/** Asks for numbers as the person who is signed in. */
export function apiOf(session: Session): Api {
  return new Api(null, session.csrf_token);
}

/** An invitation comes as `#invitation=ri_…`: what is after `#` is sent to no server and written into no log. */
export function invitationIn(hash: string): string | null {
  const found = new URLSearchParams(hash.replace(/^#/, "")).get("invitation");
  return found !== null && /^ri_[0-9a-f]{64}$/.test(found) ? found : null;
}

async function ask<T>(method: string, path: string, body?: unknown, csrf?: string): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (csrf !== undefined) headers["X-CSRF-Token"] = csrf;
  const request: RequestInit = { method, headers, cache: "no-store", signal: AbortSignal.timeout(20_000) };
  if (body !== undefined) request.body = JSON.stringify(body);
  let response: Response;
  try {
    response = await fetch(path, request);
  } catch {
    throw new Refused(0, "The server does not answer. Is it running, and is the network there?");
  }
  if (!response.ok) throw await refusal(response, false);
  return (response.status === 204 ? undefined : await response.json()) as T;
}
