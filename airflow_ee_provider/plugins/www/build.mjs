// Bundles src/ into dist/main.js. Its first line names the sources that it was made of: a test compares them.
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, readdirSync } from "node:fs";
import { build } from "esbuild";

const hash = createHash("sha256");
for (const name of readdirSync("src").sort()) {
  hash.update(readFileSync(`src/${name}`));
}

await build({
  banner: { js: `// Made by "make ui" of sources with the SHA-256 ${hash.digest("hex")}` },
  bundle: true,
  charset: "utf8",
  entryPoints: ["src/main.tsx"],
  format: "esm",
  jsx: "transform",
  legalComments: "none",
  loader: { ".css": "text" },
  minify: true,
  outfile: "dist/main.js",
  target: "es2022",
});
for (const icon of ["icon.svg", "icon-dark.svg"]) {
  copyFileSync(`src/${icon}`, `dist/${icon}`);
}
