import { describe, expect, test } from "vitest";

import { answer, figure, group } from "./example";
import { parseMessage, Replica } from "./messages";

describe("reading a message", () => {
  test("takes snapshots and changes", () => {
    expect(parseMessage('{"position":"f-3","seq":3,"kind":"change","answer":{"truncated":true}}')).toEqual({ position: "f-3", seq: 3, kind: "change", answer: { truncated: true } });
  });

  test.each([
    "",
    "null",
    "{}",
    '{"seq":3,"kind":"change","answer":{}}',
    '{"position":"f-3","seq":"3","kind":"change","answer":{}}',
    '{"position":"f-3","seq":3,"kind":"other","answer":{}}',
    '{"position":"f-3","seq":3,"kind":"snapshot","answer":null}',
  ])(
    "refuses %s",
    (data) => expect(parseMessage(data)).toBeNull(),
  );
});

describe("the copy of an answer", () => {
  test("takes changed fields, points and groups, and keeps the others", () => {
    const replica = new Replica();
    replica.apply({ position: "f-7", seq: 7, kind: "snapshot", answer: answer() });
    const change = { total: figure("35.00"), groups: [group({ "11": "1.00", "12": "24.00" }), group({ "12": "5.00" }, { store: "A" })] };
    expect(replica.apply({ position: "f-8", seq: 8, kind: "change", answer: change })).toBe("applied");
    expect(replica.answer?.total.value).toBe("35.00");
    expect(replica.answer?.horizon).toBe("2026-05-01T11:00:00Z");
    expect(replica.answer?.groups.map((one) => one.points.map((point) => point.number.value))).toEqual([["10.00", "1.00", "24.00"], ["5.00"]]);
  });

  test("does not believe a change after a gap or without a snapshot", () => {
    const replica = new Replica();
    expect(replica.apply({ position: "f-1", seq: 1, kind: "change", answer: {} })).toBe("gap");
    replica.apply({ position: "f-1", seq: 1, kind: "snapshot", answer: answer() });
    expect(replica.apply({ position: "f-3", seq: 3, kind: "change", answer: { total: figure("99.00") } })).toBe("gap");
    expect(replica.answer?.total.value).toBe("30.00");
  });

  test("ignores what it has seen, and takes any snapshot, also with a lower number", () => {
    const replica = new Replica();
    replica.apply({ position: "f-9", seq: 9, kind: "snapshot", answer: answer() });
    expect(replica.apply({ position: "f-9", seq: 9, kind: "change", answer: { total: figure("99.00") } })).toBe("old");
    expect(replica.apply({ position: "f-1", seq: 1, kind: "snapshot", answer: answer({ total: figure("1.00") }) })).toBe("applied");
    expect([replica.position, replica.seq, replica.answer?.total.value]).toEqual(["f-1", 1, "1.00"]);
  });

  test("is stale no longer than the server says so", () => {
    const replica = new Replica();
    replica.apply({ position: "f-1", seq: 1, kind: "snapshot", answer: answer({ stale: { age_ms: 6_000, reason: "store_away" } }) });
    replica.apply({ position: "f-2", seq: 2, kind: "change", answer: { groups: [] } });
    expect(replica.answer?.stale).toBeUndefined();
  });
});
