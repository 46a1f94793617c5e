import js from "@eslint/js"
import globals from "globals"

// Of the host only what is meant for extensions: app and api.
const modules = { regex: "scripts/(?!(app|api)\\.js$)", message: "Of the host's scripts use app.js and api.js alone: the others are its own." }
const properties = ["window", "globalThis"].map((object) => ({ object, property: "comfyAPI", message: "Import app.js or api.js." }))
const registers = "ExpressionStatement:has(CallExpression[callee.property.name='registerExtension'])"

export default [
  { ignores: ["*", "!web", "!eslint.config.js"] },
  js.configs.recommended,
  {
    files: ["web/js/**/*.js"],
    languageOptions: { globals: globals.browser },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      curly: ["error", "multi-line"],
      eqeqeq: "error",
      "max-lines": ["error", 300],
      "no-alert": "error",
      "no-else-return": "error",
      "no-eval": "error",
      "no-restricted-imports": ["error", { patterns: [modules] }],
      "no-restricted-properties": ["error", ...properties],
      "no-restricted-syntax": ["error", { selector: `${registers} ~ ${registers}`, message: "One extension a file." }],
      "no-shadow": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
]
