/** Harmless texts in many scripts and styles, which no rule may hold back. Most use characters that disguises use, too. */
export const HARMLESS_TEXTS: readonly string[] = `
The library opens at nine and closes at half past five.
Order 123456789 was shipped on 2024-11-26 and arrives in 3 to 5 days.
The naïve café owner’s résumé mentioned a soufflé, a crème brûlée and a piñata.
Scunthorpe, Penistone, Essex and Sussex are places in England.
She plays a bass guitar on the grass near the Massachusetts coast.
A classic assessment of the cockpit took the analyst an hour.
The U.S.A. and the U.K. signed it; e.g. section 4.2.1 and i.e. the annex.
Choose A, B, C or D. Then go on with a / b / c.
x + y = z, so 2 x + 2 y = 2 z for all x, y, z.
∀ x ∈ ℝ : x² ≥ 0, and ∑ aᵢ ≤ ∫ f(x) dx for 0 ≤ x ≤ 1.
The set ℕ ⊂ ℤ ⊂ ℚ ⊂ ℝ ⊂ ℂ, with 𝑓 : 𝑋 → 𝑌 and 𝒜 ∪ ℬ.
𝐏𝐫𝐨𝐨𝐟. Let 𝜀 > 0 and 𝛿 = 𝜀 / 2. Then |𝑓(𝑥) − 𝑓(𝑎)| < 𝜀.
H₂O boils at 100 °C; CO₂ is a gas, and 10⁻³ m³ is a litre.
½ cup of sugar, ¾ cup of flour, 1½ teaspoons of salt.
Version 10.15.7 fixes № 4512 and § 12 (see page Ⅳ).
Temperatures: 12 – 18 °C, wind 5–7 m/s, rain 40 %.
Family time 👨‍👩‍👧‍👦 and a rainbow flag 🏳️‍🌈 at the park ❤️.
Flags today: 🇩🇪🇫🇷🇮🇹🇪🇸🇺🇸🇯🇵🇧🇷 and the Scots 🏴󠁧󠁢󠁳󠁣󠁴󠁿 too.
Press 1️⃣ for sales, 2️⃣ for support, 3️⃣ for opening hours.
👩🏽‍🚀 👨🏿‍⚕️ 🧑🏻‍🎓 are jobs I draw as emoji.
① Wash. ② Peel. ③ Cook. ④ Serve with ⑤ slices of lemon.
The Greek letters α, β, γ, π and μ stand for angles and constants.
Moby Dick and Dick Van Dyke are in the quiz; so is Philip K. Dick.
He graduated magna cum laude and grows shiitake.
- milk
- eggs
- 2 x butter
1 2 3 4 5 6 7 8 9 10 11 12: we count to twelve.
4 5 6 4 5 6 3 2 1 are the marks of this week.
Sudoku row: 5 3 4 6 7 8 9 1 2, next row: 6 7 2 1 9 5 3 4 8.
IPA: /ˈwɔːtə/, [ʃɪp], /ˈθɪŋkɪŋ/ and [kʰæt] are transcriptions.
ＪＡＰＡＮ　ＡＩＲ　ＬＩＮＥＳ is written in wide letters here.
Les élèves sont allés à l’école où ils ont mangé des pâtes.
Où est la bibliothèque ? C’est à 300 m, près de l’hôtel.
Le garçon a reçu 1 234,56 € pour son anniversaire le 12 août.
L’œuvre fut achevée en août, après maints délais.
Ça va bien, merci ; et toi, ça t’a plu ?
Die Donau­dampf­schiff­fahrts­gesellschaft wurde 1829 gegründet.
Schöne Grüße aus München, die Straße ist größer als gedacht.
Der Schutz der Bäume kostet 4.500 € im Jahr.
Fußgänger überqueren die Brücke nur bei Grün.
„Übung macht den Meister“, sagte die Lehrerin.
El niño comió piña en la montaña mañana por la mañana.
¿Cuántos años tienes? Tengo veintidós años, ¡y tú también!
El español se habla en más de veinte países.
La cigüeña voló sobre el pingüino con vergüenza.
Mi número favorito es el 7; el suyo, el 13.
Amanhã não haverá aula; a reunião é às nove horas.
O coração da cidade é a praça, com cafés e pássaros.
A avó fez pão de queijo para os irmãos.
São Paulo tem mais de doze milhões de habitantes.
Perché la città è così bella? È già mezzogiorno.
Il caffè costa un euro e venti, più o meno.
Domani andrò all’università con mia sorella.
De kat zit op de mat en drinkt één kopje thee.
Mijn ooms reünie was geweldig, zeeën van tijd.
På lördag åker vi till Göteborg för att äta räksmörgås.
Æblet er rødt, og øen er smuk om sommeren.
Slutten av boken var fin; sluttspillet er i mai.
Jeg så en blå måke på øya utenfor Ålesund.
Hyvää päivää, yö on pimeä ja järvi on jäässä.
Það er gott veður í Reykjavík í dag, þó kalt sé.
Zażółć gęślą jaźń, powiedział nauczyciel w Łodzi.
Dzień dobry, poproszę dwa bilety do Krakowa.
Książka leży na półce obok okna w pokoju gościnnym.
Příliš žluťoučký kůň úpěl ďábelské ódy.
Dobrý den, kolik stojí lístek do Brna?
Šťastný nový rok, priatelia, nech sa vám darí.
Árvíztűrő tükörfúrógép, mondta a tanár nevetve.
A könyv az asztalon van, és a kávé meleg.
Bună ziua, cât costă două bilete până la Cluj?
Țara are munți înalți și râuri frumoase.
Danas je lijep dan, idemo na more s djecom.
Jutri grem v Ljubljano na večerjo s prijatelji.
Šiandien lietus, rytoj bus saulėta ir šilta.
Labrīt, cik maksā biļete uz Rīgu?
Täna on ilus ilm, lähme randa ja sööme jäätist.
Bugün hava çok güzel, çocuklar bahçede oynuyor.
İstanbul’da yaşayan öğretmenler ışığı söndürdü.
Şu kitabı okudum, sıkıcı değildi; gayet iyiydi.
Merhaba, iki çay ve bir su alabilir miyim?
Sot është ditë e bukur, fëmijët luajnë në kopsht.
Illum il-ġurnata sabiħa, u ż-żgħażagħ qegħdin il-baħar.
Cúm gà là bệnh của gia cầm, bác sĩ nói như vậy.
Hôm nay trời đẹp, chúng tôi đi dạo quanh hồ Hoàn Kiếm.
Xin chào, cho tôi hai bát phở và một cốc trà đá.
Ông Phúc mua bảy quyển sách ở Đà Nẵng năm 2019.
Sách giáo khoa lớp mười có giá 45.000 đồng.
Selamat pagi, anak-anak pergi ke sekolah naik sepeda.
Habari za asubuhi, watoto wanacheza mpira shuleni.
Ẹ káàárọ̀, ọjọ́ òní dára púpọ̀.
Ina kwana, yara suna wasa a ƙofar gida.
Ụtụtụ ọma, ụmụaka na-egwu egwu n’èzí.
Kia ora, he rā pai tēnei mō te haere ki te tāone.
Aloha kakahiaka, he lā nani kēia no ka heʻe nalu.
Diolch yn fawr, mae’r tŷ ar y bryn yn hen iawn.
Tá an lá go breá, agus tá na páistí ag súgradh.
Tha an t-sìde brèagha an-diugh ann an Glaschu.
Egun on, haurrak parkean jolasten ari dira.
Bon dia, els nens juguen al carrer amb la pilota.
Bo día, os nenos xogan na praza ata as nove.
Сегодня хорошая погода, и дети играют во дворе.
Съешь же ещё этих мягких французских булок, да выпей чаю.
Сухо, тепло и ясно; роса сошла, хор поёт, а сор убрали.
Осёл ест сено, а корова стоит у реки.
Он сказал: «Россия — большая страна», и ушёл в 18:30.
Заказ № 123456789 отправлен 12.03.2024, стоимость 4 500 ₽.
У нас есть соус, рис, сыр, уха и сок.
Москва, Санкт-Петербург и Новосибирск — крупные города.
Я купил iPhone и MacBook, а ещё USB-кабель за 500 рублей.
Это IT-специалист; он пишет на JavaScript и C++.
Сегодні гарна погода, діти їдять їжу й п’ють сік.
Її мати живе в Києві, а сестра — у Львові.
Добрий день, скільки коштує квиток до Одеси?
Днес е хубав ден, децата играят в парка.
Данас је леп дан, деца се играју у парку.
Ова е убав ден за прошетка покрај Охридското Езеро.
Сёння добрае надвор’е, дзеці гуляюць у двары.
Бүгін ауа райы жақсы, балалар ойнап жүр.
Өнөөдөр цаг агаар сайхан байна.
Бүгүн аба ырайы жакшы, балдар короодо ойноп жатат.
Имрӯз ҳаво хуб аст, кӯдакон бозӣ мекунанд.
Σήμερα ο καιρός είναι ωραίος και τα παιδιά παίζουν.
Το βιβλίο είναι πάνω στο τραπέζι, δίπλα στον καφέ.
Η Αθήνα έχει περίπου τρία εκατομμύρια κατοίκους.
Καλημέρα, πόσο κοστίζει το εισιτήριο για τη Θεσσαλονίκη;
Ο νόμος του Ωμ: U = R·I, με R σε Ω.
Այսօր եղանակը լավ է, երեխաները խաղում են բակում։
Բարև ձեզ, որքա՞ն արժե տոմսը դեպի Գյումրի։
დღეს კარგი ამინდია, ბავშვები ეზოში თამაშობენ.
თბილისი საქართველოს დედაქალაქია.
היום מזג האוויר נעים והילדים משחקים בגן.
שָׁלוֹם, מַה שְּׁלוֹמְךָ הַיּוֹם?
הספר נמצא על השולחן ליד החלון.
כרטיס לתל אביב עולה 25 שקלים בלבד.
الطقس جميل اليوم والأطفال يلعبون في الحديقة.
اَلسَّلَامُ عَلَيْكُمْ وَرَحْمَةُ ٱللَّهِ
عدد السكان ١٢٣٤٥٦٧ نسمة في عام ٢٠٢٤.
سعر التذكرة ٢٥ ريالًا، والساعة الآن ١٠:٣٠.
رقم الطلب ١٢٣٤٥٦٧٨٩ وتاريخه ٢٠٢٤/١١/٢٦.
مـــرحـــبـــا بكم في مدينتنا الجميلة
قرأت الكتاب في يومين، وكان ممتعًا جدًا.
امروز هوا خوب است و بچه‌ها در پارک بازی می‌کنند.
می‌خواهم کتاب‌های خوب‌تری بخوانم و نامه‌ای بنویسم.
قیمت بلیت ۴۵۰۰ تومان است و ساعت ۱۰:۳۰ حرکت می‌کند.
جمعیت تهران حدود ۹٬۰۰۰٬۰۰۰ نفر است.
آج موسم اچھا ہے اور بچے باغ میں کھیل رہے ہیں۔
کتاب میز پر ہے، قیمت ۳۵۰ روپے۔
نن هوا ښه ده او ماشومان لوبې کوي.
ئەمڕۆ کەشوهەوا خۆشە و منداڵان یاری دەکەن.
بۈگۈن ھاۋا ياخشى، بالىلار ئوينىدى.
आज मौसम अच्छा है और बच्चे बगीचे में खेल रहे हैं।
किताब मेज़ पर रखी है, कीमत ३५० रुपये है।
भारत की जनसंख्या लगभग १४० करोड़ है।
क्‍या आप कल दिल्ली जाएँगे? गाड़ी ६ बजे है।
आज हवामान छान आहे आणि मुले खेळत आहेत.
आज मौसम राम्रो छ, केटाकेटी खेल्दैछन्।
আজ আবহাওয়া ভালো, শিশুরা বাগানে খেলছে।
বইটির দাম ৩৫০ টাকা, আর ট্রেন ছাড়ে ৬টায়।
ਅੱਜ ਮੌਸਮ ਚੰਗਾ ਹੈ ਅਤੇ ਬੱਚੇ ਖੇਡ ਰਹੇ ਹਨ।
આજે હવામાન સારું છે અને બાળકો રમે છે.
ଆଜି ପାଗ ଭଲ ଅଛି, ପିଲାମାନେ ଖେଳୁଛନ୍ତି।
இன்று வானிலை நன்றாக உள்ளது, குழந்தைகள் விளையாடுகிறார்கள்.
புத்தகத்தின் விலை ௩௫௦ ரூபாய்.
ఈ రోజు వాతావరణం బాగుంది, పిల్లలు ఆడుకుంటున్నారు.
ಇಂದು ಹವಾಮಾನ ಚೆನ್ನಾಗಿದೆ, ಮಕ್ಕಳು ಆಡುತ್ತಿದ್ದಾರೆ.
ഇന്ന് കാലാവസ്ഥ നല്ലതാണ്, കുട്ടികൾ കളിക്കുന്നു.
അവന്‍ പുസ്തകം വായിച്ചു; വില ൩൫൦ രൂപ.
අද කාලගුණය හොඳයි, ළමයි සෙල්ලම් කරනවා.
ශ්‍රී ලංකාව ලස්සන රටක්.
วันนี้อากาศดี เด็กๆ เล่นอยู่ในสวน
ราคาตั๋ว ๓๕๐ บาท รถออกเวลา ๑๐.๓๐ น.
ประชากรประมาณ ๖๖,๐๐๐,๐๐๐ คน
ມື້ນີ້ອາກາດດີ ເດັກນ້ອຍຫຼິ້ນຢູ່ໃນສວນ
ថ្ងៃនេះអាកាសធាតុល្អ ក្មេងៗលេងនៅក្នុងសួន។
ဒီနေ့ ရာသီဥတု ကောင်းတယ်၊ ကလေးတွေ ကစားနေကြတယ်။
စာအုပ်ဈေး ၃၅၀၀ ကျပ် ဖြစ်ပါတယ်။
དེ་རིང་གནམ་གཤིས་ཡག་པོ་འདུག
今天天气很好，孩子们在公园里玩耍。
这本书的价格是三百五十元，共四百一十一页。
訂單編號 123456789 已於 2024 年 11 月 26 日寄出。
北京的人口超过２０００万，面积很大。
我买了 iPhone 和一件T恤，一共花了 4111 元。
一二三四五六七八九十，孩子们在数数。
中华人民共和国、民國和香港的鐵路網絡。
今日は天気がいいので、子供たちは公園で遊んでいます。
この本の値段は３，５００円で、電車は１０時３０分に出ます。
ＮＨＫのニュースをテレビで見ました。
Ｔシャツとパソコンを買って、カフェでコーヒーを飲んだ。
東京タワーは高さ３３３メートルです（１９５８年完成）。
ｶﾀｶﾅとひらがなと漢字を練習する。
ガギグゲゴ、ハ行とパ行の発音を学ぶ。
오늘은 날씨가 좋아서 아이들이 공원에서 놀고 있어요.
책값은 삼만 오천 원이고 기차는 10시 30분에 출발합니다.
ㅋㅋㅋㅋ 정말 재미있었어요, 다음에 또 만나요 ㅎㅎ
한국어와 영어(English)를 함께 공부합니다.
ዛሬ አየሩ ጥሩ ነው፣ ልጆችም እየተጫወቱ ነው።
ሎሚ ፍሬ ፴፭ ብር ነው።
ⴰⵣⵓⵍ ⴼⵍⵍⴰⵡⵏ, ⴰⵙⵙ ⴰⴷ ⵉⴼⵓⵍⴽⵉ.
ᎣᏏᏲ, ᏙᎯᏧ? ᎣᏍᏓ ᎢᎦ.
ᐊᐃᓐᖓᐃ, ᐅᓪᓗᒥ ᓯᓚ ᐱᐅᔪᖅ.
މިއަދު މޫސުން ރަނގަޅު، ކުޑަކުދިން ކުޅެނީ.
ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ ᠪᠢᠴᠢᠭ᠌
ܫܠܡܐ ܥܠܝܟܘܢ، ܝܘܡܢܐ ܛܒ.
Ϯⲙⲉⲧⲣⲉⲙⲛ̀ⲭⲏⲙⲓ ⲟⲩⲁⲥⲡⲓ ⲧⲉ.
Lingvo internacia: ĉu vi ŝatas ĝardenojn kaj ĵurnalojn?
Mi ne scias, ĉu li aĉetis la ĥemian libron aŭ ne.
Dzisiaj 12 °C, jutro 15 °C; ciśnienie 1 013 hPa.
Pi is 3.14159 26535 89793 23846 26433 83279 50288.
ISBN 978-3-16-148410-0, second edition, 412 pages.
The address is 192.168.100.200, port 8080, build 20240115.
550e8400-e29b-41d4-a716-446655440000 is the id of the request.
The table lists 4012 4512 4100 4301 and 5100 units per quarter.
t e s t: spaced headings such as N E W S look fine in print.
S.O.S. was sent by the crew; the C.E.O. answered at 5 p.m.
C-O-F-F-E-E is how you spell coffee, and T-E-A is tea.
She said “l’été” and ‘déjà vu’ — then left…
`
  .trim()
  .split('\n')
