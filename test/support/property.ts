import fc from 'fast-check';

/** Runs a property; a failure prints seed and path and how to run it again. EXT4D_SEED and EXT4D_PATH repeat one. */
export function checkProperty<T>(property: fc.IPropertyWithHooks<T>, parameters: fc.Parameters<T> = {}): void {
  report(fc.check(property, repeatable(parameters)) as fc.RunDetails<T>);
}

/** {@link checkProperty} for properties that wait. */
export async function checkAsyncProperty<T>(
  property: fc.IAsyncPropertyWithHooks<T>,
  parameters: fc.Parameters<T> = {},
): Promise<void> {
  report(await fc.check(property, repeatable(parameters)));
}

function repeatable<T>(parameters: fc.Parameters<T>): fc.Parameters<T> {
  const { EXT4D_SEED: seed, EXT4D_PATH: path } = process.env;
  return {
    ...parameters,
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  };
}

function report<T>(result: fc.RunDetails<T>): void {
  if (!result.failed) return;
  const again = `EXT4D_SEED=${result.seed} EXT4D_PATH=${result.counterexamplePath} npm test`;
  const cause = result.errorInstance instanceof Error ? result.errorInstance.stack : String(result.errorInstance);
  throw new Error(`${fc.defaultReportMessage(result)}\n${cause}\nTo run it again: ${again}`);
}
