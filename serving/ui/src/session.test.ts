import { afterEach, expect, test, vi } from "vitest";

import { Api, Refused } from "./api";
import { apiOf, current, invitationIn, signIn, signOut } from "./session";

const SESSION = { email: "ada@example.com", tenant: "acme", tenants: ["acme"], scopes: ["read"], csrf_token: "t0ken" };

/** Answers every request with this; what was asked. */
function serve(status: number, body: unknown): { path: string; init: RequestInit }[] {
  const asked: { path: string; init: RequestInit }[] = [];
  vi.stubGlobal("fetch", async (path: string, init: RequestInit) => {
    asked.push({ path, init });
    return new Response(status === 204 ? null : JSON.stringify(body), { status });
  });
  return asked;
}

afterEach(() => vi.unstubAllGlobals());

test("the password goes into the body, never into an address", async () => {
  const asked = serve(200, SESSION);
  expect(await signIn("ada@example.com", "correct horse")).toEqual(SESSION);
  expect(asked[0]?.path).toBe("v1/session");
  expect(JSON.parse(String(asked[0]?.init.body))).toEqual({ email: "ada@example.com", password: "correct horse" });
});

test("what is wrong is said in the server's words", async () => {
  serve(401, { detail: "the address or the password is not right" });
  await expect(signIn("a@b", "x")).rejects.toThrow("The address or the password is not right");
  serve(401, {});
  expect(await current()).toBeNull();
  serve(503, { detail: "the configuration store is away" });
  await expect(current()).rejects.toBeInstanceOf(Refused);
});

test("a session's second token goes along, and no key", async () => {
  let asked = serve(200, { tenant: "acme" });
  await apiOf(SESSION).catalog();
  let headers = new Headers(asked[0]?.init.headers);
  expect([headers.get("X-CSRF-Token"), headers.get("Authorization")]).toEqual(["t0ken", null]);
  asked = serve(204, null);
  await signOut(SESSION);
  headers = new Headers(asked[0]?.init.headers);
  expect([asked[0]?.init.method, headers.get("X-CSRF-Token")]).toEqual(["DELETE", "t0ken"]);
});

test("who only reads is told what the reconciliation needs", async () => {
  serve(403, { detail: "this is not open to you: it needs the scope `finance`" });
  const refused = await apiOf(SESSION).reconciliation().catch((error: unknown) => error);
  expect(refused).toMatchObject({ status: 403, message: expect.stringContaining("finance") });
  serve(404, {});
  expect(await apiOf(SESSION).reconciliation()).toBeNull();
});

test("what changes something has the second token too, and is refused in the server's words", async () => {
  const definition = { name: "Little", metric: "revenue", side: "below", threshold: "1" } as const;
  let asked = serve(201, { secret: "whsec_x" });
  expect((await apiOf(SESSION).createAlert(definition)).secret).toBe("whsec_x");
  expect([asked[0]?.path, asked[0]?.init.method, asked[0]?.init.body]).toEqual(["v1/alerts", "POST", JSON.stringify(definition)]);
  const headers = new Headers(asked[0]?.init.headers);
  expect([headers.get("X-CSRF-Token"), headers.get("Content-Type")]).toEqual(["t0ken", "application/json"]);
  asked = serve(204, null);
  await apiOf(SESSION).removeAlert("a/b");
  expect([asked[0]?.path, asked[0]?.init.method]).toEqual(["v1/alerts/a%2Fb", "DELETE"]);
  serve(403, { detail: "it needs the scope `admin`" });
  await expect(new Api("rk_read").createAlert(definition)).rejects.toThrow("It needs the scope `admin`");
  await expect(new Api("rk_write").catalog()).rejects.toThrow("needs the scope “read”");
});

test("alerts are read to the last page", async () => {
  const pages: Record<string, unknown> = {
    "v1/alerts": { alerts: [{ id: "1" }, { id: "2" }], unreadable: [], next: "a=" },
    "v1/alerts?after=a%3D": { alerts: [{ id: "3" }], unreadable: ["4"], next: null },
  };
  vi.stubGlobal("fetch", async (path: string) => new Response(JSON.stringify(pages[path])));
  const { alerts, unreadable } = await apiOf(SESSION).alerts();
  expect([alerts.map(({ id }) => id), unreadable]).toEqual([["1", "2", "3"], ["4"]]);
});

test("hours are asked for by instants, in the tenant's zone", async () => {
  const asked = serve(200, {});
  await apiOf(SESSION).anomalies({ metric: "revenue", from: "2026-03-08", to: "2026-03-09", grain: "1h", filters: [{ dimension: "store", value: "A" }] }, "America/New_York");
  const query = new URLSearchParams(asked[0]?.path.split("?")[1]);
  expect(Object.fromEntries(query)).toEqual({ metric: "revenue", from: "2026-03-08T05:00:00.000Z", to: "2026-03-09T04:00:00.000Z", filter: "store:A" });
});

test("an invitation is what looks like one", () => {
  const token = `ri_${"0".repeat(64)}`;
  expect(invitationIn(`#invitation=${token}`)).toBe(token);
  for (const wrong of ["", "#", "#invitation=", "#invitation=ri_x", `#other=${token}`]) expect(invitationIn(wrong)).toBeNull();
});
