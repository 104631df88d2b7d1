#!/usr/bin/env bash
# Finding: the JavaScript client, initialised with a project, looks for a bare task id in `projects/earthengine-legacy`,
# although it lists and starts in the project. Of several ids, it makes one multipart request to /batch.
#
# Guess before the first run: like the Python client, it asks for the id in the project that it was initialised with, one
# request after the other.
# Seen 2026-11-29, Node 20.20.2, @google/earthengine 1.7.45, a server on this machine:
#   list:        GET /v1/projects/my-project/operations
#   status of A: GET /v1/projects/earthengine-legacy/operations/A
#   cancel A B:  POST /batch: POST projects/earthengine-legacy/operations/A:cancel, … /B:cancel
# What follows for this provider: an operation that an answer names under earthengine-legacy is the one that was asked
# for (protocol/api_methods.py), and the emulator answers both. Fails if the client changes that.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm install --prefix "$work" --silent --no-package-lock --no-audit --no-fund "@google/earthengine@1.7.45" > "$work/log"
cat > "$work/asks.js" <<'JAVASCRIPT'
const http = require("http");
const ee = require("@google/earthengine");
const asked = [];

const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (piece) => (body += piece));
  request.on("end", () => {
    const path = request.url.split("?")[0];
    if (path.endsWith("/algorithms")) {
      response.setHeader("Content-Type", "application/json");
      response.end('{"algorithms": []}');
      return;
    }
    const parts = [...body.matchAll(/POST \S*?(projects\S*) HTTP/g)].map((found) => found[1]);
    asked.push([request.method, path, ...parts].join(" "));
    response.setHeader("Content-Type", "application/json");
    response.end("{}");
  });
});

server.listen(0, "127.0.0.1", async () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const done = (call) => new Promise((resolve) => call(() => resolve()));
  ee.data.setAuthToken("client", "Bearer", "t", 3600, [], undefined, false);
  await new Promise((resolve, reject) => ee.initialize(url, url, resolve, reject, null, "my-project"));
  await done((callback) => ee.data.listOperations(null, callback));
  await done((callback) => ee.data.getOperation("A", callback));
  await done((callback) => ee.data.cancelOperation(["A", "B"], callback));
  console.log(asked.map((one) => one.replace(/\?.*/, "")).join("\n"));
  process.exit(0);
});
JAVASCRIPT
seen=$(NODE_PATH="$work/node_modules" node "$work/asks.js")
echo "$seen"
[ "$seen" = "GET /v1/projects/my-project/operations
GET /v1/projects/earthengine-legacy/operations/A
POST /batch projects/earthengine-legacy/operations/A:cancel projects/earthengine-legacy/operations/B:cancel" ]
