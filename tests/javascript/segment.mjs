// Segment's own library for Node sends purchases, one of them twice: node segment.mjs COLLECTOR WRITE_KEY DEPARTMENT
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, department] = process.argv.slice(2);
const analytics = new Analytics({ writeKey, host, flushAt: 2, maxRetries: 0 });
analytics.on("error", (error) => {
  console.error(error);
  process.exitCode = 1;
});
for (const [number, revenue] of [[1, 10.01], [2, 0.02], [3, 5], [1, 10.01]]) {
  analytics.track({
    event: "purchase",
    userId: `${department}-${number % 2}`,
    messageId: `${department}-${number}`,
    timestamp: new Date("2026-03-07T15:00:00Z"),
    properties: { revenue, currency: "USD", department },
  });
}
await analytics.closeAndFlush();
