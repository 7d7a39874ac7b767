/** The manual pages say what the program takes and ends with: all of it, and nothing else. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { COMMAND_TEXTS } from '../../../src/cli/command-texts.js';
import { type CommandName, EXIT_CODES, type ExitCode } from '../../../src/cli/exit-codes.js';
import { HELPER_OPTIONS } from '../../../src/cli/mount-helper.js';
import { HONOURED, parseMountOptions } from '../../../src/cli/mount-options.js';
import { IGNORED, REFUSED } from '../../../src/cli/mount-words.js';
import { run } from '../../support/mke2fs.js';
import { EXT4D, requireOrSkip } from '../../support/server.js';

const ROOT = dirname(dirname(EXT4D));
const path = (name: string) => join(ROOT, 'man', name);
const page = readFileSync(path('ext4d.8'), 'utf8');
const helper = readFileSync(path('mount.fuse.ext4d.8'), 'utf8');

/** The lines between a heading and the next one of that kind or a higher one. */
function section(text: string, heading: string): string {
  const lines = text.split('\n');
  const start = lines.indexOf(heading);
  assert.ok(start >= 0, `${heading} is missing`);
  const ends = heading.startsWith('.Ss') ? /^\.S[sh] / : /^\.Sh /;
  const end = lines.findIndex((line, i) => i > start && ends.test(line));
  return lines.slice(start + 1, end < 0 ? undefined : end).join('\n');
}

/** ".It Fl n , Fl -dry-run" gives ["n", "-dry-run"]; `macro` Cm the words of ".It Cm uid Ns = Ns Ar N , Cm gid ...". */
function tagged(text: string, macro: 'Fl' | 'Cm'): string[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith(`.It ${macro} `))
    .flatMap((line) => line.slice(4).split(' , '))
    .map((alternative) => alternative.split(' ')[1]);
}

/** The same words in any order; what is missing and what is too much is named, with what to do. */
function sameWords(told: readonly string[], known: Iterable<string>, what: string): void {
  const wanted = new Set(known);
  const missing = [...wanted].filter((word) => !told.includes(word));
  const extra = told.filter((word) => !wanted.has(word));
  assert.deepEqual({ missing, extra }, { missing: [], extra: [] }, `${what}: lacks ${missing}; has in vain ${extra}`);
  assert.equal(new Set(told).size, told.length, `${what}: something is told twice`);
}

function flagsOf(options: Readonly<Record<string, { short?: string; text?: string | null }>>): string[] {
  return Object.entries(options)
    .filter(([, { text }]) => text !== null)
    .flatMap(([long, { short }]) => (short === undefined ? [`-${long}`] : [short, `-${long}`]));
}

/** Tables of EXIT STATUS by command: ".It Cm mount , umount", then ".It 0" and its meaning on the next line. */
function exitTables(text: string, name: string | null): Map<string, ExitCode[]> {
  const tables = new Map<string, ExitCode[]>();
  let current: string[] = name === null ? [] : [name];
  const lines = section(text, '.Sh EXIT STATUS').split('\n');
  for (const [i, line] of lines.entries()) {
    if (line.startsWith('.It Cm ')) current = line.slice(7).split(' , ');
    const [, code] = /^\.It (\d+)$/.exec(line) ?? [];
    if (code === undefined) continue;
    for (const command of current)
      tables.set(command, [...(tables.get(command) ?? []), { code: Number(code), meaning: lines[i + 1] }]);
  }
  return tables;
}

describe('the manual', function () {
  this.timeout(20_000);

  for (const name of ['ext4d.8', 'mount.fuse.ext4d.8']) {
    it(`${name} is set without a warning`, function () {
      requireOrSkip(this, spawnSync('groff', ['--version']).status === 0 ? null : 'groff is missing');
      assert.deepEqual(run('groff', ['-ww', '-z', '-mandoc', '-Tutf8', path(name)]), { code: 0, output: '' });
    });
  }

  it('has every command with its options, in the synopsis and in a section', () => {
    const shared = tagged(section(page, '.Ss Options of replay, journal, info, check and quota'), 'Fl');
    const synopsis = section(page, '.Sh SYNOPSIS');
    for (const [name, { options }] of Object.entries(COMMAND_TEXTS)) {
      assert.match(synopsis, new RegExp(`^\\.Cm ${name}$`, 'm'));
      const looksIntoImages = Object.hasOwn(options, 'json');
      const told = [...tagged(section(page, `.Ss ${name}`), 'Fl'), ...(looksIntoImages ? shared : [])];
      sameWords(told, flagsOf(options), `.Ss ${name} of man/ext4d.8`);
    }
    const sections = [...section(page, '.Sh COMMANDS').matchAll(/^\.Ss (\w+)$/gm)].map(([, name]) => name);
    assert.deepEqual(sections.sort(), [...Object.keys(COMMAND_TEXTS), 'help'].sort());
  });

  it('has every mount option that does something, is ignored, or is refused with the reason', () => {
    const options = section(page, '.Sh MOUNT OPTIONS');
    const honoured = options.slice(0, options.indexOf('.Ss '));
    sameWords(tagged(honoured, 'Cm'), HONOURED, 'MOUNT OPTIONS of man/ext4d.8');
    const ignored = section(page, '.Ss Accepted without an effect');
    const words = [...ignored.matchAll(/^\.Cm (\S+) [,.]$/gm)].map(([, word]) => word.replace('\\&', ''));
    sameWords(words, IGNORED, 'ignored options of man/ext4d.8 (npm run manual)');
    const refused = section(page, '.Ss Refused');
    sameWords(tagged(refused, 'Cm'), Object.keys(REFUSED), 'refused options of man/ext4d.8 (npm run manual)');
    for (const reason of Object.values(REFUSED))
      assert.ok(refused.includes(`\n${reason[0].toUpperCase()}${reason.slice(1)}.\n`), `${reason} (npm run manual)`);
  });

  it('has the exit codes of every command', () => {
    const tables = exitTables(page, null);
    assert.deepEqual([...tables.keys()].sort(), Object.keys(COMMAND_TEXTS).sort());
    for (const [name, told] of tables) {
      // umount has the table of mount, and cannot be interrupted before it is mounted.
      const codes = EXIT_CODES[name === 'umount' ? 'mount' : (name as CommandName)];
      assert.deepEqual(told, codes, name);
    }
    assert.deepEqual(exitTables(helper, 'mount').get('mount'), EXIT_CODES['mount.fuse.ext4d']);
  });

  it('and so has the README', () => {
    const rows = readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/^\| (`[^|]+`) +\| (0[^|]*)\|$/gm);
    const told = new Map<string, number[]>();
    for (const [, commands, codes] of rows)
      for (const [, name] of commands.matchAll(/`([^`]+)`/g))
        told.set(
          name,
          [...codes.matchAll(/(?:^|, )(\d+)/g)].map(([, code]) => Number(code)),
        );
    for (const [name, codes] of Object.entries(EXIT_CODES)) {
      // The demonstration is what "npm start" shows.
      if (name === 'demo') continue;
      const page = name === 'umount' ? EXIT_CODES.mount : codes;
      assert.deepEqual(
        told.get(name),
        page.map(({ code }) => code),
        name,
      );
    }
  });

  it('has the options of the mount helper', () => {
    sameWords(tagged(helper, 'Fl'), flagsOf(HELPER_OPTIONS), 'man/mount.fuse.ext4d.8');
  });

  it('shows fstab lines whose options are taken', () => {
    const lines = section(helper, '.Sh FSTAB')
      .split('\n')
      .filter((line) => line.startsWith('/'))
      .map((line) => line.split(/ +/));
    assert.ok(lines.length >= 3);
    for (const [source, directory, type, options, dump, pass] of lines) {
      assert.ok(source.startsWith('/') && directory.startsWith('/'));
      assert.deepEqual([type, dump, pass], ['fuse.ext4d', '0', '0']);
      parseMountOptions([options]);
    }
  });
});
