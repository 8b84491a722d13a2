/// A host key that guards nothing: made for these tests.
pub(super) const HOST_KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n\
QyNTUxOQAAACBfcQP0CoIvZ7aF0iJ3OOowJuQZlbwOJpbWVpJOuoSFvAAAAIigyRoBoMka\n\
AQAAAAtzc2gtZWQyNTUxOQAAACBfcQP0CoIvZ7aF0iJ3OOowJuQZlbwOJpbWVpJOuoSFvA\n\
AAAEB4pTQP07/AZ/AI2HmucMi0DVz65QTBQMNGrvr/pmmcGV9xA/QKgi9ntoXSInc46jAm\n\
5BmVvA4mltZWkk66hIW8AAAABGhvc3QB\n\
-----END OPENSSH PRIVATE KEY-----\n\
";
