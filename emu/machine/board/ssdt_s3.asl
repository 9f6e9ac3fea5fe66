// Suspend to RAM, in a table of its own because a machine may be without (-global PIIX4_PM.disable_s3=1).
DefinitionBlock ("", "SSDT", 2, "PANGEA", "PANGEAS3", 1)
{
    Name (\_S3, Package () { 1, 1, 0, 0 })  // SLP_TYP as on QEMU's pc: kS3SleepType
}
