// The event timer, in a table of its own because a machine may be without (-machine pc,hpet=off).
DefinitionBlock ("", "SSDT", 2, "PANGEA", "PANGEAHP", 1)
{
    Scope (\_SB)
    {
        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_UID, 0)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadOnly, 0xfed00000, 0x00000400)
            })
        }
    }
}
