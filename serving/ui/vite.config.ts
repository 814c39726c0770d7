import { defineConfig, loadEnv } from "vite";

export default defineConfig(({ mode }) => ({
  // Relative, so that the page also works behind a proxy that serves it under a path.
  base: "./",
  build: {
    // The page's Content-Security-Policy allows no data: addresses and no inline scripts.
    assetsInlineLimit: 0,
    modulePreload: false,
    target: "es2022",
  },
  // `npm run dev` asks a running `reckon serve` for the numbers: RECKON_URL=http://127.0.0.1:<port> npm run dev
  server: {
    proxy: { "/v1": { target: loadEnv(mode, ".", "RECKON_").RECKON_URL ?? "http://127.0.0.1:8080" } },
  },
}));
