"""SwiftEdit training: stage 1 on a generator's own pictures, stage 2 on real ones, and the export of both."""
