import { defineConfig } from "vite";

/** The library for other people's pages: one file under a name that stays, beside the page. */
export default defineConfig({
  build: {
    outDir: "dist/sdk",
    emptyOutDir: true,
    target: "es2022",
    lib: { entry: "sdk/reckon.ts", formats: ["es"], fileName: () => "reckon.js" },
  },
});
