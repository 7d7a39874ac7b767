/** `--help` answers for everything that is parsed, and for nothing else. */
import assert from 'node:assert/strict';
import { COMMAND_TEXTS, helpOf, usageOf } from '../../../src/cli/command-texts.js';
import { type CommandName, EXIT_CODES } from '../../../src/cli/exit-codes.js';
import { HONOURED } from '../../../src/cli/mount-options.js';
import { IGNORED, REFUSED } from '../../../src/cli/mount-words.js';
import { OPTION_TEXTS, wordsOf } from '../../../src/cli/option-texts.js';
import { run } from '../../support/mke2fs.js';
import { EXT4D } from '../../support/server.js';

const COMMANDS = Object.keys(COMMAND_TEXTS) as CommandName[];

describe('help', function () {
  this.timeout(20_000);

  it('the overview names every command', () => {
    for (const args of [['--help'], ['-h'], ['help']]) {
      const { code, output } = run(EXT4D, args);
      assert.equal(code, 0);
      for (const name of COMMANDS) assert.match(output, new RegExp(`^  ${name} `, 'm'));
    }
    assert.equal(run(EXT4D, []).code, 1);
  });

  for (const name of COMMANDS) {
    it(`${name} --help and help ${name} tell its options and exit codes`, () => {
      const { code, output } = run(EXT4D, ['help', name]);
      assert.equal(code, 0);
      assert.deepEqual(run(EXT4D, [name, '--help']), { code, output });
      assert.deepEqual(run(EXT4D, [name, 'a', '-h']), { code, output });
      assert.ok(output.startsWith(`usage: ${usageOf(name)}\n`));
      for (const [option, { text }] of Object.entries<{ text: string | null }>(COMMAND_TEXTS[name].options))
        assert.equal(output.includes(`--${option}`), text !== null, option);
      for (const { code: exit, meaning } of EXIT_CODES[name]) assert.ok(output.includes(`${exit}  ${meaning}\n`));
    });
  }

  it('no line is wider than a terminal of 100 columns', () => {
    for (const name of COMMANDS) for (const line of helpOf(name).split('\n')) assert.ok(line.length <= 100, line);
  });

  it('the mount options of the help are those that do something', () => {
    const told = OPTION_TEXTS.flatMap(wordsOf);
    const missing = HONOURED.filter((word) => !told.includes(word));
    assert.deepEqual(missing, [], `src/cli/option-texts.ts lacks ${missing}`);
    assert.equal(told.length, HONOURED.length);
    for (const word of HONOURED) assert.ok(!IGNORED.has(word) && !Object.hasOwn(REFUSED, word), word);
  });

  it('the version is that of the package', () => {
    for (const flag of ['--version', '-V']) assert.match(run(EXT4D, [flag]).output, /^ext4d \d+\.\d+\.\d+\n$/);
  });

  it('what is unknown is named, with where to look', () => {
    for (const args of [['frobnicate'], ['help', 'frobnicate'], ['--frobnicate'], ['constructor']]) {
      const { code, output } = run(EXT4D, args);
      assert.equal(code, 1);
      assert.match(output, /unknown (command|option): .*see: ext4d --help\n$/);
    }
  });
});
