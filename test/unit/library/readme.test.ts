/** The README's examples of the library, run as they stand. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { fsckFile, makeImageFile } from '../../support/mke2fs.js';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

describe('the README', function () {
  this.timeout(30_000);

  it('shows examples of the library that run, one after the other', () => {
    const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
    const examples = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code);
    assert.equal(examples.length, 2);
    const scratch = mkdtempSync(join(tmpdir(), 'ext4d-readme-'));
    try {
      mkdirSync(join(scratch, 'node_modules'));
      symlinkSync(ROOT, join(scratch, 'node_modules', 'ext4d'));
      makeImageFile(join(scratch, 'disk.img'), 16);
      const output = examples.map((code, i) => {
        const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
        writeFileSync(join(scratch, `${i}.mjs`), ts.transpileModule(code, { compilerOptions: options }).outputText);
        return execFileSync(process.execPath, [`${i}.mjs`], { cwd: scratch, encoding: 'utf8' });
      });
      assert.equal(output[0], '/etc/app (directory)\n/etc/app/config 12\n');
      assert.equal(output[1], 'the log was clean: 0 transactions\nanswer = 42\n\nENOENT\n[]\n');
      for (const image of ['disk.img', 'replayed.img']) assert.equal(fsckFile(join(scratch, image)).code, 0);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  });
});
