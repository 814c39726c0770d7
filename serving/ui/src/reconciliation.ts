/** The last reconciliation: what speed had, what batch counted, and the reasons for every difference. */

import type { Reconciliation, ReconciliationRow } from "./api";
import { fill, h } from "./dom";
import { isZero, pixels, shortened, signed, value, words } from "./format";
import { instant } from "./zone";

const REASONS: Record<string, string> = {
  late: "came after the allowed lateness",
  duplicate: "delivered twice, recognised by one of the two only",
  future: "dated in the future",
  unreadable: "could not be read",
  unknown_tenant: "tenant not in the catalog",
  not_yet_seen: "not counted by speed yet",
  not_counted_then: "counted before this was added to the catalog",
  sketch: "error of the estimate",
};

/** Instead of it, for who only reads. */
export function notForYou(): HTMLElement {
  return h("p", { class: "empty" }, "How the two counts compare is shown to finance. An admin can give you the scope ", h("code", {}, "finance"), ".");
}

export function showReconciliation(root: Element, of: Reconciliation | null, zone: string): void {
  if (of === null) {
    fill(root, h("p", { class: "empty" }, "Nothing has been settled yet. ", h("code", {}, "reckon nightly"), " counts the finished days again and compares."));
    return;
  }
  const rows = [...of.rows].sort((a, b) => Number(b.rollup === "total") - Number(a.rollup === "total"));
  const unexplained = rows.filter((row) => !isExplained(row)).length;
  const days = of.first_day === of.last_day ? of.first_day : `${of.first_day} to ${of.last_day}`;
  fill(
    root,
    of.explained
      ? h("p", { class: "verdict good" }, "Every difference is explained")
      : h("p", { class: "verdict bad" }, `Unexplained differences${unexplained > 0 ? ` in ${unexplained} ${unexplained === 1 ? "row" : "rows"}` : ""}`),
    h(
      "p",
      { class: "facts" },
      `${days} (${value(of.days)} ${of.days === 1 ? "day" : "days"}), ${value(of.events)} events in ${value(of.deliveries)} deliveries, ${value(of.users)} distinct users, settled ${instant(of.settled_at, zone)}, `,
      h("span", { title: of.run_id }, `run ${shortened(of.run_id)}`),
      `, lake version ${value(of.lake_version)}`,
    ),
    rows.length === 0 ? h("p", { class: "empty" }, "This run had nothing to compare.") : pictures(rows),
    rows.length > 0 && table(rows),
  );
}

/** Whether every cell is; the sum alone does not tell, because cells may cancel each other out. */
function isExplained(row: ReconciliationRow): boolean {
  return row.cells_with_residual === 0 && isZero(row.residual);
}

/** One little picture for each number of the coarsest rollup: drift by reason, to the left what speed had too little. */
function pictures(rows: readonly ReconciliationRow[]): HTMLElement {
  const coarsest = rows.filter((row) => row.rollup === rows[0]?.rollup);
  return h("div", { class: "pictures" }, ...coarsest.map(picture));
}

function picture(row: ReconciliationRow): HTMLElement {
  const reasons = Object.entries(row.reasons).filter(([, amount]) => !isZero(amount));
  if (!isZero(row.residual)) reasons.push(["residual", row.residual]);
  const longest = Math.max(...reasons.map(([, amount]) => Math.abs(pixels(amount))), Number.MIN_VALUE);
  const bars = reasons.map(([reason, amount]) => {
    const bar = h("span", { class: `drift ${pixels(amount) < 0 ? "less" : "more"}${reason === "residual" ? " residual" : ""}` });
    bar.style.width = `${(Math.abs(pixels(amount)) / longest) * 50}%`;
    return h(
      "li",
      { title: REASONS[reason] ?? "no reason explains it" },
      h("span", { class: "name" }, words(reason)),
      h("span", { class: "track", "aria-hidden": "true" }, bar),
      h("span", { class: "amount" }, signed(amount)),
    );
  });
  return h(
    "figure",
    { class: "picture" },
    h("figcaption", {}, h("span", {}, measured(row)), " ", h("span", { class: "unit" }, "speed − batch")),
    h("p", { class: "sum" }, signed(row.drift)),
    bars.length > 0 ? h("ul", {}, ...bars) : h("p", { class: "hint" }, "Both counted the same."),
  );
}

function table(rows: readonly ReconciliationRow[]): HTMLElement {
  const columns = ["Counted", "Grouped by", "Speed", "Batch", "Difference", "Reasons", "Residual"];
  const cells = (row: ReconciliationRow): (string | Node)[] => [
    measured(row),
    row.rollup === "total" ? "–" : row.rollup.split(",").map(words).join(", "),
    value(row.speed),
    value(row.batch),
    signed(row.drift),
    reasonsOf(row),
    residual(row),
  ];
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every compared number" },
    h(
      "table",
      { class: "reconciliation stacked" },
      h("thead", {}, h("tr", {}, ...columns.map((name, index) => h("th", { scope: "col", class: index >= 2 && index !== 5 ? "amount" : "" }, name)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...cells(row).map((cell, index) => h("td", { "data-label": columns[index] ?? "", class: index >= 2 && index !== 5 ? "amount" : "" }, cell))))),
    ),
  );
}

function reasonsOf(row: ReconciliationRow): Node {
  const reasons = Object.entries(row.reasons).filter(([, amount]) => !isZero(amount));
  if (reasons.length === 0) return h("span", { class: "hint" }, "none");
  return h("span", { class: "reasons" }, ...reasons.map(([reason, amount]) => h("span", { class: "reason", title: REASONS[reason] ?? "" }, `${words(reason)} ${signed(amount)}`)));
}

function residual(row: ReconciliationRow): Node {
  const bound = row.measure === "users" && !isZero(row.error_bound) ? ` (bound ${value(row.error_bound)})` : "";
  const where = row.cells_with_residual > 0 ? ` in ${value(row.cells_with_residual)} of ${value(row.cells)} cells` : "";
  return h("span", { class: isExplained(row) ? "good" : "bad" }, `${isZero(row.residual) ? "0" : signed(row.residual)}${bound}${where}`);
}

function measured(row: ReconciliationRow): string {
  const what = row.measure === "money" ? row.currency : row.measure === "sum" ? words(row.property ?? "") : row.measure === "count" ? "events" : "users by day";
  return `${words(row.event)}, ${what}`;
}
