/** Writes an alert down. Everybody sees it: whether somebody may do so is for the server to say, and it says why not. */

import { definitionOf, type Definition, type NewAlert } from "./alerts";
import type { Metric } from "./api";
import { fill, h } from "./dom";
import { words } from "./format";

/** The form; `onWrite` sends, and throws what the server says against it. */
export function alertForm(metrics: readonly Metric[], onWrite: (definition: Definition) => Promise<NewAlert>): HTMLElement {
  const problem = h("p", { class: "problem", role: "alert", id: "alert-problem" });
  const secret = h("div", { class: "secret", role: "status" });
  const name = h("input", { type: "text", required: true, maxlength: "100", placeholder: "Few purchases", autocomplete: "off" });
  const metric = choice(metrics.map((one) => [one.name, words(one.name)]));
  const side = choice([["above", "is above"], ["below", "is below"]]);
  const threshold = h("input", { type: "text", required: true, inputmode: "decimal", placeholder: "100", autocomplete: "off" });
  const seconds = h("input", { type: "number", min: "0", max: "86400", value: "60" });
  const minutes = h("input", { type: "number", min: "1", max: "1440", value: "5" });
  const webhook = h("input", { type: "url", placeholder: "https://…", autocomplete: "off" });
  const button = h("button", { type: "submit", class: "primary" }, "Watch it");
  const submit = async (): Promise<void> => {
    const fields = { name, metric, side, threshold, seconds, minutes, webhook };
    const typed = Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, field.value])) as Record<keyof typeof fields, string>;
    button.disabled = true;
    fill(problem);
    try {
      const alert = await onWrite(definitionOf(typed));
      form.reset();
      fill(secret, ...secretOf(alert, () => fill(secret)));
    } catch (error) {
      fill(problem, error instanceof Error ? error.message : String(error));
    } finally {
      button.disabled = false;
    }
  };
  const onsubmit = (event: Event): void => {
    event.preventDefault();
    void submit();
  };
  const form = h(
    "form",
    { class: "alertform", onsubmit, "aria-describedby": "alert-problem" },
    labelled("Name", name),
    labelled("Metric", metric),
    labelled("Over the last minutes", minutes),
    labelled("Fires when it", side),
    labelled("Threshold", threshold),
    labelled("For more than seconds", seconds),
    labelled("Webhook (optional)", webhook),
    button,
    problem,
  );
  return h("div", {}, secret, h("details", { class: "writedown" }, h("summary", {}, "Write an alert down"), form));
}

/** Shown until it is dismissed, and never again. */
function secretOf({ name, secret }: NewAlert, onDone: () => void): Node[] {
  return [
    h("p", {}, `“${name}” is watched from now on. Its secret signs the messages to a webhook; it is shown only now:`),
    h("p", {}, h("code", {}, secret), " ", h("button", { type: "button", class: "quiet", onclick: onDone }, "I have it")),
  ];
}

function choice(options: readonly (readonly [string, string])[]): HTMLSelectElement {
  return h("select", {}, ...options.map(([value, text]) => h("option", { value }, text)));
}

function labelled(text: string, field: HTMLElement): HTMLElement {
  return h("label", {}, h("span", { class: "label" }, text), field);
}
