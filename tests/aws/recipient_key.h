/* recipient_key: an RSA-2048 key for tests, published here, and envelopes for it in the forms that KMS sends. */
#ifndef TMKMS_TESTS_AWS_RECIPIENT_KEY_H
#define TMKMS_TESTS_AWS_RECIPIENT_KEY_H

static const char recipient_key_pem[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQCRo4qpzjz/Twqa\n"
    "fM23n55LxgLLmHF4JFNLZFKxD7nQKQIsm01YtW/AZxHpuFFe5r6gxzBQEExunh1L\n"
    "vEYwhhu4iAwEWHvu1VF47iXFFbmzbXbCEVWZi11FZLj/SpVpX1/3VWffpTzerpan\n"
    "c5bnaeiY8LIDJx6EylLA0SP5QlfxWL+aEpP2wG0kQjpKyhZrQv4WWVtM404+k8Oq\n"
    "3ZHXa7t4sANMDS4Y/vvVlIAwvYX318i7BngqoY7Ei7WZRqiR/7FEd6T0gQc2hs2W\n"
    "uZbcJZ8JXb19EZy5KYno9t4YsIJl2rn8yi72ktHV96BfcA0fczUGhPC8NG5W2NHs\n"
    "hY5lAfr3AgMBAAECggEAD/3BD/wRPodTRrtFa1AfdXp8fBZ0/xgd/T06xy5O3Mhj\n"
    "8LnsuDzT1HB8ywjuBlmXvNeiOmhPvCWoWdSGcHWJPa3Sg/ejRAowM/MSOp20EjuG\n"
    "urBkkcN3rlLs7TsnRLawNtwt16SxFlJdQG20uBws6f4jzazR8Qq2I23TYV8jgOBv\n"
    "WmgZ++i7Xfot5suaxpnCu5KLbkrQsBwZYXDF1H/NeEr52NuVu+SScoNXitHLWQCt\n"
    "A9L9cYJ3K9F68Z2ZBH0nRHaDxrBBDsBJrLiPrgQYeBdKtzeACR7imOohqAhuwrh1\n"
    "dgcFZ/XBunduf9eLdi7EFyKd0HmDm7M+Smj0z8W14QKBgQDIgmWmfErWr3A8+SaW\n"
    "wzqnZozR1H5AKLiiCQ/8QFUzXIlTqj+jF/+ETlnr84nLGGeJA60kjmZRptJw69UZ\n"
    "VDBwQSonaQG+5mpkL/6vnaPAbj/wn0pEBnCW9E5yfQ6pPnz+q3HFoI/E4pfNCIH8\n"
    "UI/WVLY+Gg2U8BOjbBSstngXNQKBgQC58bNROy5SDiqBVv4Ws66kMYhEkRNEoACl\n"
    "WSceJ3c5+7DI00XWcTEL+yQFt/Xk5PzFUb7idoZZfsAAHtakXr8KT8whSnblTn9w\n"
    "MiQxJi6I7xUpjrkAKibQz33H4myHN+aefATCKxEUDswVG81cc3OVINkxvaPJa6Y7\n"
    "QAFYVcuS+wKBgGm+s2NJG6L7ZUMS1zIdhhpw8AVdfrPRhgYWp3KObyCmRdp06BjY\n"
    "eC5LsArLJrmQhlHxOWgVHYskYsmg5oL0LpOVGmksbPpDxIpP8Y6moYzD2D7Lkzwq\n"
    "9Uf3UkP5BjlltkANJPRoCEp6gjpkqUDrL+CGTpKT5OPOdVzzjDfGB7GdAoGAJPsG\n"
    "+L7WZYdfuL1+ZzFxKEKZoVlhBaL0ve3PM9YRhjyiWi56kz2LzaAy99gwVUedZfju\n"
    "B8gezCnDMcLwWVxmjjx0kqJmpxBHlB7Ex+maE63I/aze6kN32MuLbnd/shzSBu8P\n"
    "WzaJfP28ZO5Ul3B2qlAQIi5fJq38L4h5PAJELIUCgYEAp+cspFhG590xfoG1gut1\n"
    "7D79OY99x2gJvTG49itrPUXuNIjSoVGzLMd0JunZYS2HhaOr2q0teSpf/S4FgGLm\n"
    "ipFqIcDLYvbLl6CpnFbQCx76ELh21L/Xst+d1ODULzopijU3dosRL1hL8+WpsXgf\n"
    "gls+HzcaiKikc+eFPFSXJcc=\n"
    "-----END PRIVATE KEY-----\n";

#endif
