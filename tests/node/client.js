// What a script in the Code Editor does, with the same client: start, list, get and cancel. Prints what it saw as JSON.
const ee = require("@google/earthengine");

const [url, project] = process.argv.slice(2);
const asked = (call) =>
  new Promise((resolve, reject) => call((answer, error) => (error ? reject(new Error(error)) : resolve(answer))));
const outcome = (promise) => promise.then((answer) => ({ answer }), (error) => ({ error: error.message }));

async function main() {
  ee.data.setAuthToken("client", "Bearer", "t", 3600, [], undefined, false);
  await new Promise((resolve, reject) => ee.initialize(url, url, resolve, reject, null, project));
  const names = [];
  for (const description of ["one", "two", "three"]) {
    const task = ee.batch.Export.image.toCloudStorage({ image: ee.Image(1), description, bucket: "b", scale: 1000 });
    await new Promise((resolve, reject) => task.start(resolve, reject));
    names.push((await asked((done) => ee.data.listOperations(null, done)))[0].name);
  }
  const [first, second, third] = names;
  const id = third.split("/").pop();
  const refused = ee.batch.Export.image.toCloudStorage({ image: ee.Image(1), description: "no bucket", scale: 1000 });
  const seen = {
    names,
    got: (await asked((done) => ee.data.getOperation(first, done))).metadata.description,
    gotById: (await asked((done) => ee.data.getOperation(id, done))).name,
    gotTogether: Object.keys(await asked((done) => ee.data.getOperation([first, second], done))),
    status: (await asked((done) => ee.data.getTaskStatus(id, done)))[0].state,
    cancelled: await outcome(asked((done) => ee.data.cancelOperation(first, done))),
    cancelledTogether: await outcome(asked((done) => ee.data.cancelOperation([second, third], done))),
    cancelledOneUnknown: await outcome(
      asked((done) => ee.data.cancelOperation([second, `projects/${project}/operations/UNKNOWN`], done)),
    ),
    refused: await outcome(new Promise((resolve, reject) => refused.start(resolve, (error) => reject(new Error(error))))),
    value: await outcome(asked((done) => ee.Number(1).add(41).evaluate(done))),
  };
  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
