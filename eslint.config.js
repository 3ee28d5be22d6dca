// Lint rules for everything written in TypeScript or JavaScript.
// SPDX-License-Identifier: MIT

import js from '@eslint/js';
import ts from 'typescript-eslint';

export default ts.config(
  { ignores: ['dist/', 'build/', 'node_modules/', 'web/dist/', 'web/src/wasm/', '.toolchain/', '.venv/', '.cache/'] },
  js.configs.recommended,
  ...ts.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/consistent-type-imports': ['error', { disallowTypeAnnotations: false }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/require-await': 'off', // an async function without await turns a throw into a rejection
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-meaningless-void-operator': 'off',
    },
  },
  {
    files: ['web/src/**/*.ts', 'web/demo/**/*.ts', 'tests/browsers/**/*.ts'],
    rules: {
      'no-restricted-syntax': [
        'error',
        {
          selector: "VariableDeclaration[kind='await using']",
          message: 'WebKit has no Symbol.asyncDispose yet: close in finally',
        },
      ],
    },
  },
  {
    files: ['web/src/**/*.ts'],
    ignores: ['web/src/engine/engine.ts'],
    rules: { '@typescript-eslint/consistent-type-assertions': ['error', { assertionStyle: 'never' }] },
  },
  {
    // What vitest's matchers return and JSON.parse gives is `any`, on purpose: tests pass what types would refuse, and the build reads JSON.
    files: ['tests/**/*.ts', '**/vite.config.ts', 'web/demo/*-plugin.ts'],
    rules: {
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
  {
    files: ['**/*.{js,mjs}'],
    ...ts.configs.disableTypeChecked,
    languageOptions: {
      globals: {
        console: 'readonly',
        process: 'readonly',
        URL: 'readonly',
        Buffer: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        fetch: 'readonly',
      },
    },
  },
  {
    files: ['web/standalone/*.js'],
    languageOptions: {
      globals: Object.fromEntries(
        ['Blob', 'DecompressionStream', 'Response', 'Worker', 'atob'].map((name) => [name, 'readonly']),
      ),
    },
  },
  {
    files: ['scripts/bench/page/*.js'],
    languageOptions: {
      globals: {
        self: 'readonly',
        window: 'readonly',
        performance: 'readonly',
        Worker: 'readonly',
        WebAssembly: 'readonly',
        TextEncoder: 'readonly',
      },
    },
  },
);
