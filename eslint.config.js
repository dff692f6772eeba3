import tseslint from "typescript-eslint";

export default tseslint.config(
  {
    ignores: ["node_modules", ".local", "tests/fixtures"],
  },
  {
    files: ["**/*.ts"],
    extends: [...tseslint.configs.strictTypeChecked, ...tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { project: ["./tsconfig.json", "./shared/tsconfig.json"], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true, allowBoolean: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/dot-notation": "off",
      "@typescript-eslint/unified-signatures": "off",
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/no-unnecessary-type-parameters": "off",
    },
  },
  {
    // Deno's globals are unknown to the compiler that lints; `deno check` has their types.
    files: [
      "local/functions/in-isolate.ts",
      "local/functions/in-isolate-surface.ts",
      "functions/*/index.ts",
      "functions/deno-runtime.ts",
      "functions/database-socket.ts",
    ],
    extends: [tseslint.configs.disableTypeChecked],
    languageOptions: { parserOptions: { project: null } },
  },
  {
    files: ["tests/**/*.ts"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "CallExpression[callee.property.name='toMatchObject'] :matches(Property, ArrayExpression) > Literal[regex]",
          message:
            "toMatchObject takes a regular expression for an object without properties, and so anything: expect.stringMatching.",
        },
      ],
    },
  },
  {
    files: ["shared/**/*.ts", "functions/**/*.ts"],
    // Where all log lines leave.
    ignores: ["functions/deno-runtime.ts"],
    rules: { "no-console": "error" },
  },
);
