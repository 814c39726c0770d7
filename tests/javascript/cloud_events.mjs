// The CloudEvents project's own library sends purchases in both of its modes, one of them twice:
// node cloud_events.mjs COLLECTOR WRITE_KEY DEPARTMENT
import { CloudEvent, HTTP } from "cloudevents";

const [collector, writeKey, department] = process.argv.slice(2);
const send = async (encode, number, revenue) => {
  const event = new CloudEvent({
    id: `${number}`,
    source: `/tests/${department}`,
    type: "purchase",
    subject: `${department}-${number % 2}`,
    time: "2026-03-07T15:00:00Z",
    data: { revenue, currency: "USD", department },
  });
  const { headers, body } = encode(event);
  const answer = await fetch(`${collector}/v1/cloudevents`, {
    method: "POST",
    headers: { ...headers, authorization: `Bearer ${writeKey}` },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
  if (answer.status !== 204) throw new Error(`${answer.status}: ${await answer.text()}`);
};
await send(HTTP.structured, 1, "10.01");
await send(HTTP.binary, 2, "0.02");
await send(HTTP.structured, 3, 5);
await send(HTTP.binary, 1, "10.01");
