/** A short slice of the campaign of hostile images, in processes of their own: one that hangs or dies is a failure too. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('main.js', import.meta.url));
const SECONDS = 15;
/** Even a machine that is busy with other things tries as many. */
const FEW = 300;

describe('hostile images', function () {
  this.timeout(240_000);

  it('are refused, or served with an error for what is damaged: no crash, hang, growth, or access outside', () => {
    const { EXT4D_SEED: seed } = process.env;
    const args = [MAIN, '--hours', String(SECONDS / 3600), ...(seed === undefined ? [] : ['--seed', seed])];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 200_000 });
    const output = stdout + stderr;
    assert.equal(status, 0, output);
    const [, structures, refused, written] =
      /^all: (\d+) corrupted structures .* refused (\d+), .* written to (\d+)/m.exec(output) ?? [];
    assert.ok(Number(structures) >= FEW, output);
    assert.ok(Number(refused) > 0 && Number(written) > 0, output);
  });
});
