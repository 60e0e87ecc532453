"""BlazeEdit on a phone: LiteRT bundles, made, checked and run."""
