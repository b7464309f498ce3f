/** The addon for this machine, as its file is called. */
export function addonName(): string {
  const { platform, arch } = process
  if (platform !== 'linux') return `scan-pipeline.${platform}-${arch}.node`
  const header = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header
  return `scan-pipeline.linux-${arch}-${header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu'}.node`
}
