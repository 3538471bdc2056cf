"""Function words of languages no answer is judged in: enough to see that an answer is in none of the known ones.

An answer in Portuguese read as Spanish gives a verdict that means nothing. So the judge must know more languages than it
can judge: for each of them some twenty of its most frequent function words, compared without accents. They are chosen to
tell a language from its relatives among the known ones (pt from es, af from nl, uk from ru), not from each other.
Source: our own knowledge, no corpus. Checked in the tests: sentences of these languages are recognised, answers of the
known languages are not.
"""

from __future__ import annotations

from collections.abc import Mapping

FURTHER_WORDS: Mapping[str, str] = {
    # Romance
    "pt": "não você voce uma um em com isso para que de do da dos das os as mais ou eu posso seu sua por como mas é são está"
    " muito também ao na no este essa esse desculpe nem pelo pela você sobre fazer",
    "gl": "non podo unha un isto iso máis co coa dun dunha moito para que de do da os as pero tamén é son axudar axudarche"
    " sinto ti vostede facer",
    "ca": "amb això què és una un per però els les dels del al aquest aquesta puc pot em et ho hi també molt més i si sento"
    " teu seva no aquests ens vostè sense fer ajudar-te perquè",
    "ro": "nu și este că pot să cu pentru sunt din la în de un o mai sau acest această ce vă te îmi pe dar ca dacă care asta"
    " acestui ajuta rău cererea poate fi lui unei",
    # Germanic
    "sv": "och att det är jag inte kan med för som en ett på av den du dig har till men om eller detta vi här ska ledsen tyvärr"
    " hjälpa någon",
    "da": "og at det er jeg ikke kan med for som en et på af den du dig har til men om eller dette vi her skal hvis beklager"
    " desværre hjælpe nogen",
    "nb": "og at det er jeg ikke kan med for som en et på av den du deg har til men om eller dette vi her skal hvis beklager"
    " dessverre hjelpe noen",
    "is": "og að er ég ekki það get með þú því en sem um við fyrir á þér þetta mig hjálpað eru ef þess",
    "af": "die nie en is ek jou kan met van om te vir dit jammer maar hierdie wat sal daarmee ander het my dis gevra hulle jy"
    " moet iemand se",
    # Slavic, Latin script
    "cs": "a je se na v že to s ne ale jako pro by jsem nebo vám mi jak tento můžu nemohu omlouvám jsou které tím o do z bohužel"
    " není si jsme pomoci",
    "sk": "a je sa na v že to s nie ale ako pre by som alebo vám mi tento môžem nemôžem sú ktoré tým o do z prepáčte bohužiaľ"
    " nie je si pomôcť",
    "sl": "in je se na v da to ne z ali za sem lahko vam pa ki so tega bi kot pri morem žal tudi ni mi oprostite pomagati",
    "hr": "i je se na u da to ne s ali za sam mogu vam što su kao od bi žao mi ovo koji nije ili tim ti pomoći nisam",
    # Baltic, Finnic, others of Europe
    "lt": "ir kad yra su ne aš tai į bet jūs ar negaliu galiu jums kaip apie šiuo už tik nuo dėl atsiprašau padėti",
    "lv": "un ir ka es nav ar par bet jums to šo vai nevaru kā var lai no uz jūs tas atvainojiet palīdzēt diemžēl",
    "fi": "ja on en ei että se voi voin ole tämä mutta kuin sinä sinua minä mitä jos tai olen pahoillani auttaa ovat kun niin"
    " myös siitä valitettavasti tässä",
    "et": "ja on ei see et ma sa kui või aga saa mida oma teie selle kas ning ole mis ka kuid kahjuks aidata vabandust sellega",
    "hu": "a az és nem hogy is egy ez van ha de meg vagy csak tudok ebben ezt kell lehet azt sajnálom mert még segíteni sajnos"
    " önnek neked",
    "sq": "dhe të në që me nuk është një për por mund ju kjo si nga e i unë më janë ka vjen keq këtë ndihmoj",
    "eu": "eta ez da dut hori honekin bat baina naiz ezin dizut lagundu barkatu edo du hau zure izan horretan dira",
    "cy": "yn y a ni i o ar mae ddim alla helpu gyda hynny chi eich mae'n ddrwg gen wedi yr ond neu am allaf ei",
    "ga": "agus ní an na is le ar sin féidir liom cabhrú leat tá brón orm ach nó do i seo go leis duine",
    "mt": "u ma li jien nista ngħin ninsab din il biex dan hija huwa għal ta minn jew iżda skużi dik xi",
    # Turkic
    "tr": "ve bir bu için ile da de ama değil olarak çok size konuda olan yardımcı ben ne gibi veya daha var üzgünüm sana olduğu"
    " yasa olamam bunu şey mi",
    "az": "və bir bu üçün ilə də deyil amma sizə mən olan kömək edə ya bilmərəm ki o daha kimi üzr bunu",
    "uz": "va bu bir uchun bilan men sizga yordam bera olmayman lekin kechirasiz emas yoki ham qilish bo'lgan",
    # Asia and the Pacific, Latin script
    "id": "yang dan tidak saya dengan untuk itu ini adalah di anda dari bisa dapat atau maaf akan pada membantu hal karena ke"
    " tetapi kamu tersebut tapi bukan orang",
    "ms": "yang dan tidak saya dengan untuk itu ini adalah di anda dari boleh atau maaf akan pada membantu perkara kerana"
    " tetapi dalam awak tersebut bukan orang",
    "jv": "aku ora bisa lan iki sing karo kanggo ing kowe saka iku nanging nyuwun pangapunten kula mboten saged",
    "vi": "tôi không thể của và là bạn có được cho này với một những đó các trong giúp xin lỗi việc để người rất nhưng điều",
    "tl": "ang ng sa hindi ako ko na mga at ito ay para po kung ikaw iyo paumanhin kita pero isang may ng iyan maaaring iyong",
    "mi": "te he ki o kāore au taea aroha mai koe me ngā tēnei kia mō nei",
    # Africa
    "ha": "ba zan iya da na ne ce wannan ka ki ku ya ta kuma amma don shi cikin hakan yi taimaka muku maka haƙuri hakuri wani"
    " mutum ko a taimakawa bude daga sannan farko idan biyu wasu har kadan domin wadannan ku zuwa",
    "ig": "na enweghị ike m gị nke ndị bụ ka ihe ma ọ dị inyere aka ndo site maka a agaghị nwere onye iwu",
    "sw": "na ya kwa ni hii siwezi samahani wa hilo lakini au katika kama mimi yako kukusaidia hiyo za la kuwa si kufanya mtu"
    " pole kufungua sheria",
    "zu": "ngiyaxolisa angikwazi ukukusiza nalokho ukuthi futhi kodwa uma noma nge kanye lokhu akukho umthetho",
    "xh": "ndiyaxolisa andikwazi ukukunceda ngalo oko ukuba kwaye kodwa okanye uncedo umthetho le",
    "so": "waan ma ka iyo waxaan kuma caawin karo arrintaas laakiin ah ku oo waa uu raali ahow kaa",
    "rw": "ntabwo nshobora kugufasha muri ibyo mbabarira kandi na ariko kuri ni cyangwa iyi",
    "ht": "mwen pa kapab ou ak nan sa yo pou li men eskize ede avèk yon se",
    # Cyrillic
    "uk": "не я і що з цим можу допомогти вибачте але на це вам у або як є для та до ви бути про мені шкода цьому від",
    "be": "не я магу вам у гэтым і што але на з для ці гэта прабачце ад як да дапамагчы",
    "bg": "не мога да ви с това съжалявам но на и за че е се от са ще в по или тази ти помогна как",
    "mk": "не можам да ви со тоа жал ми е но и во на за се ова од што помогнам",
    "sr": "не могу да вам са то жао ми је али и у што се на за ово од тим помогнем нисам",
    "kk": "және бұл мен сізге көмектесе алмаймын кешіріңіз бірақ үшін бар емес деп осы",
    "mn": "би танд энэ уучлаарай туслах чадахгүй байна бол юм нь та",
    # Arabic script
    "fa": "و در به از که این را با من برای است نیست شما کمک نمی توانم نمیتوانم اما متأسفم متاسفم آن یک می کنم کنید مورد",
    "ur": "میں ہے کے کی کا آپ اور اس سے نہیں کو کر مدد معذرت ہوں یہ پر سکتا سکتی لیکن",
    "ps": "زه نه د په چې دا له سره بخښنه کوم نشم تاسو مرسته کولی",
    "ckb": "من ناتوانم لە بۆ ئەو کە و یارمەتیت بدەم ببورە ئەم لەوەدا",
}
