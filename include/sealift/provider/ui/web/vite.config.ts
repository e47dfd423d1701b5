/* Builds the page into one file, which Airflow's own page imports: React and Chakra UI come from there. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const FROM_AIRFLOW = {
  react: "React",
  "react-dom": "ReactDOM",
  "react/jsx-runtime": "ReactJSXRuntime",
  "react-router-dom": "ReactRouterDOM",
  "@chakra-ui/react": "ChakraUI",
};

export default defineConfig({
  plugins: [react()],
  define: { "process.env.NODE_ENV": '"production"' },
  build: {
    target: "es2022",
    outDir: "../static",
    emptyOutDir: false,
    lib: { entry: "src/main.tsx", name: "AirflowPlugin", formats: ["umd"], fileName: () => "main.umd.cjs" },
    rollupOptions: {
      external: Object.keys(FROM_AIRFLOW),
      output: { exports: "default", globals: FROM_AIRFLOW },
    },
  },
});
