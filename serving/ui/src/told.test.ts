import { expect, test } from "vitest";

import type { AlertEvent } from "./alerts";
import { Told } from "./told";

/** A server with so many events, which can be added to. */
function server(count: number): { add(): void; asked: (string | null)[]; alertEvents(after: string | null, limit: number): Promise<AlertEvent[]> } {
  const asked: (string | null)[] = [];
  const id = (number: number): string => String(number).padStart(6, "0");
  let last = count;
  return {
    asked,
    add: () => void (last += 1),
    async alertEvents(after, limit) {
      asked.push(after);
      const first = after === null ? 1 : Number(after) + 1;
      const ids = Array.from({ length: Math.min(limit, last - first + 1) }, (_, index) => id(first + index));
      return ids.map((of) => ({ id: of }) as AlertEvent);
    },
  };
}

const read = async (told: Told, from: ReturnType<typeof server>): Promise<number[]> =>
  (await told.read(from, new AbortController().signal)).map(({ id }) => Number(id));

test("the newest are found behind all pages, and then only what is new is asked for", async () => {
  const from = server(1002);
  const told = new Told(3);
  expect(await read(told, from)).toEqual([1002, 1001, 1000]);
  expect(from.asked).toEqual([null, "000500", "001000"]);
  expect(await read(told, from)).toEqual([1002, 1001, 1000]);
  from.add();
  expect(await read(told, from)).toEqual([1003, 1002, 1001]);
  expect(from.asked.slice(3)).toEqual(["001002", "001002"]);
});

test("nothing was told yet", async () => {
  const from = server(0);
  const told = new Told(3);
  expect(await read(told, from)).toEqual([]);
  from.add();
  expect(await read(told, from)).toEqual([1]);
  expect(from.asked).toEqual([null, null]);
});
