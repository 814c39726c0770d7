/** Calendar days and clock times in the tenant's time zone, whatever zone the browser is in. Instants are in milliseconds. */

const formats = new Map<string, Intl.DateTimeFormat>();

/** The clock of a zone at an instant. */
function clock(at: number, zone: string): Record<string, string> {
  let format = formats.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat("en-CA", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
    });
    formats.set(zone, format);
  }
  return Object.fromEntries(format.formatToParts(at).map((part) => [part.type, part.value]));
}

/** The calendar day of an instant: `2026-03-08`. */
export function dayOf(at: number, zone: string): string {
  const { year, month, day } = clock(at, zone);
  return `${year}-${month}-${day}`;
}

/** The clock time of an instant: `14:05`. */
export function timeOf(at: number, zone: string): string {
  const { hour, minute } = clock(at, zone);
  return `${hour}:${minute}`;
}

/** Day and clock time of an instant; with seconds only if it has some. */
export function instant(at: number | string, zone: string): string {
  const ms = typeof at === "string" ? Date.parse(at) : at;
  const { second } = clock(ms, zone);
  return `${dayOf(ms, zone)} ${timeOf(ms, zone)}${second === "00" ? "" : `:${second}`}`;
}

/** The day of the week of an instant: `Mon`. */
export function weekdayOf(at: number, zone: string): string {
  return ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][new Date(`${dayOf(at, zone)}T00:00:00Z`).getUTCDay()] ?? "";
}

/** The calendar day some days after another one. */
export function addDays(day: string, days: number): string {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}

/** The first instant of a calendar day; where a clock change skips midnight, the first instant after the gap. */
export function dayStart(day: string, zone: string): number {
  const midnight = Date.parse(`${day}T00:00:00Z`);
  // The offset of a zone changes by hours at most, so two steps settle on the offset that holds at that midnight.
  let at = midnight - offset(midnight, zone);
  at = midnight - offset(at, zone);
  // A skipped midnight lands before the gap, on the day before: go on to the first instant of the day.
  while (dayOf(at, zone) < day) at += 30 * 60_000;
  return at;
}

/** Where the window that begins at an instant ends. Days are calendar days, so 23 to 25 hours long. */
export function windowEnd(start: number, grain: string, zone: string): number {
  const lengths: Record<string, number> = { "1s": 1_000, "1m": 60_000, "5m": 300_000, "1h": 3_600_000 };
  return start + (lengths[grain] ?? dayStart(addDays(dayOf(start, zone), 1), zone) - start);
}

function offset(at: number, zone: string): number {
  const { year, month, day, hour, minute, second } = clock(at, zone);
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) - Math.floor(at / 1000) * 1000;
}
