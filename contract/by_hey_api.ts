// A client made by hey-api's openapi-ts verifies a patient.

import assert from "node:assert/strict";

import { client } from "./out/ts/client.gen.js";
import {
  createVerification,
  createWebhookEndpoint,
  deleteWebhookEndpoint,
  listEvents,
  listPayers,
  listVendors,
  listVerifications,
  readVerification,
  readVerificationTimeline,
} from "./out/ts/index.js";
import type { CreateVerification, ThinData, VerificationCompletedWebhookPayload } from "./out/ts/index.js";

client.setConfig({ baseUrl: process.env.COVERGATE_URL, auth: process.env.COVERGATE_API_KEY });

const body: CreateVerification = {
  vendor: "sohar",
  payer: { id: "60054" },
  patient: {
    first_name: "Jane",
    last_name: "Sample",
    date_of_birth: "1990-09-20",
    member_id: "ELIGIBLE-0003",
    address: { state: "CA" },
  },
  service: { place_of_service_code: "10", specialty: "PSY", procedure_codes: ["90837"] },
};

const { data: made } = await createVerification({
  body,
  headers: { Prefer: "wait=30", "Idempotency-Key": "by-hey-api-1" },
  throwOnError: true,
});
assert.deepEqual([made.status, made.outcome], ["completed", "eligible"]);
assert.equal(made.result?.summary.in?.copay, "30.00");

const read = await readVerification({ path: { verification_id: made.id }, throwOnError: true });
assert.deepEqual(read.data, made);
const page = await listVerifications({ query: { status: ["completed"], limit: 5 }, throwOnError: true });
assert.ok(page.data.data.some((row) => row.id === made.id));
const timeline = await readVerificationTimeline({ path: { verification_id: made.id }, throwOnError: true });
assert.equal(timeline.data.data.at(-1)?.type, "completed");
const event = (await listEvents({ throwOnError: true })).data.data.at(-1);
assert.ok(event?.type === "verification.completed");
const thin: ThinData = event.data; // the type alone tells what its data is
assert.equal(thin.outcome, "eligible");
const message: VerificationCompletedWebhookPayload = { type: event.type, timestamp: event.timestamp, data: thin };
assert.equal(message.type, "verification.completed");
assert.equal((await listVendors({ throwOnError: true })).data.data.length, 5);
assert.equal((await listPayers({ query: { q: "aetna" }, throwOnError: true })).data.data[0]?.name, "Aetna");
const endpoint = await createWebhookEndpoint({
  body: { url: "https://intake.example.com/covergate" },
  throwOnError: true,
});
assert.match(endpoint.data.secret, /^whsec_/);
await deleteWebhookEndpoint({ path: { endpoint_id: endpoint.data.id }, throwOnError: true });

const { error } = await createVerification({ body: { ...body, service: {} } });
assert.ok(error && "code" in error && error.code === "missing_for_vendor");
assert.deepEqual(
  error.errors.map((row) => row.pointer).sort(),
  ["/service/place_of_service_code", "/service/specialty"],
);
